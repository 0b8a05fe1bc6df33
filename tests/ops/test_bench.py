"""Test the benches: required packages, counted work, and rows for measurements that fail."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from xcomp_jax.config import ModelConfig
from xcomp_jax.launch.bench import accelerator, blocks, kernels, model, results
from xcomp_jax.launch.bench.command import main
from xcomp_jax.launch.bench.deadline import Deadline
from xcomp_jax.launch.bench.fit import largest_frames
from xcomp_jax.launch.bench.shapes import ATTENTION, CLIPS, TINY_ATTENTION
from xcomp_jax.ops import block_sizes
from xcomp_jax.ops.attention import pallas_gpu
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.target import Target, current_target
from xcomp_jax.peaks import peak_of

REPO = Path(__file__).parents[2]
# Packages that a machine with only JAX, Flax, Optax, Orbax and jaxtyping lacks.
ABSENT = (
    "PIL",
    "grain",
    "imageio_ffmpeg",
    "jinja2",
    "matplotlib",
    "ml_collections",
    "safetensors",
    "tensorflow_datasets",
    "tokenizers",
    "torch",
    "tqdm",
    "transformers",
)


@pytest.mark.parametrize(
    "modules",
    [
        "xcomp_jax.launch.bench.accelerator",
        "xcomp_jax.launch.bench.blocks, xcomp_jax.launch.bench.fit",
        "xcomp_jax.training.step",
        "xcomp_jax.cli.main",
    ],
)
def test_benches_import_without_optional_packages(modules: str) -> None:
    program = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import {modules}
"""
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-1500:]


def test_prefill_flops_equal_hand_count() -> None:
    whole = model.model_config(tiny=False, compressed=False)
    tokens = 1024 * 16 + 863
    weights = 1536 * (1536 + 2 * 256 + 1536) + 3 * 1536 * 8960
    attention = 4 * 12 * 128 * tokens * (tokens + 1) // 2
    head = 2 * 1536 * 151_936
    assert model.prefill_flops(whole, 1024) == 28 * (2 * tokens * weights + attention) + head
    # With LP-Comp at 4,096 frames: a quarter of a second at the peak of an H200.
    peak = peak_of("NVIDIA H200")
    assert peak is not None
    flops = model.prefill_flops(model.model_config(tiny=False), 4096)
    assert peak.least_seconds(flops, 0) == pytest.approx(0.24, rel=0.02)


def test_shape_flops_and_bytes_equal_hand_count() -> None:
    shapes = {shape.name: shape for shape in ATTENTION}
    encoder = shapes["vit_448_clip8"]
    assert encoder.flops(backward=False) == 4 * encoder.batch * 16 * 64 * 6272**2
    decoder = shapes["qwen2_1p5b_16k"]
    assert decoder.flops(backward=True) == 7 * 12 * 128 * 17_247**2
    assert decoder.nbytes(backward=False) == 2 * 17_247 * 128 * (12 + 12 + 2 + 2)
    assert CLIPS[0].segments.count == 17


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [("NVIDIA H200", 989), ("TPU v5 lite", 197), ("TPU v5", 459), ("TPU v6 lite", 918)],
)
def test_peak_is_found_by_device_name(kind: str, tflops: float) -> None:
    peak = peak_of(kind)
    assert peak is not None
    assert peak.tflops == tflops


def test_peak_of_unknown_device_is_none() -> None:
    assert peak_of("cpu") is None


def test_largest_frames_follow_the_line() -> None:
    gib = 2**30
    # 4 GiB plus 1 GiB per 1,000 frames: 97 % of 20 GiB leave 15.4 GiB, in whole clips.
    assert largest_frames((1000, 5 * gib), (3000, 7 * gib), 20 * gib) == 15_392


def test_kernels_command_measures_this_device(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["kernels", "--tiny", "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    for name in ("vit_tiny", "qwen2_tiny", "scores_tiny"):
        assert name in table
    assert "Error" not in table
    (written,) = tmp_path.glob("*/kernels.json")
    content = json.loads(written.read_text())
    assert {row["implementation"] for row in content["sections"]["Kernels"]} == {"xla"}
    assert written.with_suffix(".md").read_text().startswith("# kernels")


def test_blocks_found_by_search_are_used_by_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny shapes on a CPU, where every candidate appears faster than the one before."""
    table = tmp_path / "table.json"
    table.write_text("{}")
    times = itertools.count(100, -5)

    def falling_seconds(function: Any, *arrays: Any, budget: float) -> float:
        jax.eval_shape(function, *arrays)  # fails if the kernel refuses these blocks
        return float(next(times))

    monkeypatch.setattr(blocks, "seconds", falling_seconds)
    monkeypatch.setattr(block_sizes, "TABLE", table)
    block_sizes._table.cache_clear()
    rows = [row for row in blocks.measure(Deadline(5), tiny=True) if row["kernel"] == "pallas_gpu"]
    blocks.add_to_table(rows)
    block_sizes._table.cache_clear()
    shape = TINY_ATTENTION[1]
    query, key, value, mask = kernels.attention_inputs(shape, "bfloat16")
    problem = Problem.of(query, key, value, shape.causal, mask, 0, False)
    sizes = pallas_gpu.default_blocks(problem, current_target())
    assert (sizes.forward_keys, sizes.backward_queries) == (32, 32)
    assert sizes != pallas_gpu.default_blocks(problem, Target("gpu", "another"))
    block_sizes._table.cache_clear()


def test_blocks_of_tiny_shapes_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blocks", "--tiny", "--write"]) == 2
    assert "--write needs sizes of real shapes" in capsys.readouterr().err


def test_failed_part_is_a_row_and_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*, tiny: bool, compressed: bool = True) -> ModelConfig:
        raise RuntimeError("no such model\nand more")

    monkeypatch.setattr(model, "model_config", broken)
    rows = dict(accelerator.measure(tiny=True, deadline=Deadline(10)))
    assert rows["Video encoder"] == [{"note": "RuntimeError: no such model"}]
    assert all("ms" in row for row in rows["Attention"] + rows["Clip scores"])


def test_no_measurement_starts_after_deadline() -> None:
    late = dict(accelerator.measure(tiny=True, deadline=Deadline(0)))
    assert all(rows == [{"note": "not measured: out of time"}] for rows in late.values())
    row = next(kernels.measure(tiny=True, deadline=Deadline(0)))
    assert row["note"] == "not measured: out of time"


def test_table_shows_every_column_once() -> None:
    rows = [{"a": 1, "of_roofline": 0.5}, {"a": "x|y", "note": "why"}]
    assert results.table(rows).splitlines() == [
        "| a | of_roofline | note |",
        "| --- | --- | --- |",
        "| 1 | 50 % |  |",
        "| x/y |  | why |",
    ]


@pytest.mark.slow
def test_gpu_command_measures_tiny_model(tmp_path: Path) -> None:
    assert main(["gpu", "--tiny", "--out", str(tmp_path)]) == 0
    (written,) = tmp_path.glob("*/gpu.json")
    sections = json.loads(written.read_text())["sections"]
    assert all(rows and all("note" not in row for row in rows) for rows in sections.values())
