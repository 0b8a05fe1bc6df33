"""Round-trip benchmark of the converter: small by default, full-size 2B as a slow test."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from xcomp_jax.config import LLMConfig, ModelConfig, ProjectorConfig, VisionConfig
from xcomp_jax.convert.variants import VARIANTS, Variant
from xcomp_jax.launch.bench import convert_roundtrip

SMALL = Variant(
    "small",
    ModelConfig(
        vision=VisionConfig(image_size=48, width=8, depth=3, num_heads=2),
        projector=ProjectorConfig(tokens_per_frame=4),
        llm=LLMConfig(
            vocab_size=24,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
        ),
    ),
)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_random_weights_are_finite_and_distinct(tmp_path: Path, dtype: str) -> None:
    size = convert_roundtrip.write_random(tmp_path / "source", SMALL, dtype)
    values = load_file(tmp_path / "source" / "model.safetensors")
    assert size == sum(array.nbytes for array in values.values())
    for array in values.values():
        assert np.isfinite(array.astype(np.float64)).all()
    table = values["model.embed_tokens.weight"]
    assert len(np.unique(table.astype(np.float64))) > table.size // 2


def test_changed_tensor_is_reported(tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert_roundtrip.write_random(tmp_path / name, SMALL, "float32")
    convert_roundtrip.check_equal(tmp_path / "a", tmp_path / "b")
    path = tmp_path / "b" / "model.safetensors"
    values = {name: array.copy() for name, array in load_file(path).items()}
    values["model.norm.weight"][3] *= -1
    save_file(values, path)
    with pytest.raises(RuntimeError, match=r"model\.norm\.weight"):
        convert_roundtrip.check_equal(tmp_path / "a", tmp_path / "b")


def test_measurement_respects_memory_limit() -> None:
    limit = 10**9 + convert_roundtrip.ALLOWANCE_BYTES
    assert convert_roundtrip.Measurement("x", 1.0, limit, 10**9).within
    assert not convert_roundtrip.Measurement("x", 1.0, limit + 1, 10**9).within


def test_anonymous_memory_counts_numpy_arrays() -> None:
    # A new mapping, since malloc may return memory that is already resident.
    block = mmap.mmap(-1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    before = convert_roundtrip._anonymous_bytes()
    np.frombuffer(block, np.uint8)[:] = 1
    growth = convert_roundtrip._anonymous_bytes() - before
    assert 45_000_000 < growth < 100_000_000


@pytest.mark.slow
def test_full_size_2b_round_trip_stays_in_memory(tmp_path: Path) -> None:
    measurements = convert_roundtrip.run(tmp_path, VARIANTS[0], "bfloat16")
    assert len(measurements) == 6
    assert measurements[0].array_bytes == 2 * 1_838_128_640
    for step in measurements:
        assert step.within, step
