"""The measured round trip: small by default, a full-size 2B checkpoint among the slow tests."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from xcomp_jax.config import LLMConfig, ModelConfig, ProjectorConfig, VisionConfig
from xcomp_jax.convert import bench_roundtrip
from xcomp_jax.convert.variants import VARIANTS, Variant

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
def test_random_weights_are_finite_and_varied(tmp_path: Path, dtype: str) -> None:
    size = bench_roundtrip.write_random(tmp_path / "source", SMALL, dtype)
    values = load_file(tmp_path / "source" / "model.safetensors")
    assert size == sum(array.nbytes for array in values.values())
    for array in values.values():
        assert np.isfinite(array.astype(np.float64)).all()
    table = values["model.embed_tokens.weight"]
    assert len(np.unique(table.astype(np.float64))) > table.size // 2


def test_a_difference_would_be_found(tmp_path: Path) -> None:
    for name in ("a", "b"):
        bench_roundtrip.write_random(tmp_path / name, SMALL, "float32")
    bench_roundtrip.check_equal(tmp_path / "a", tmp_path / "b")
    path = tmp_path / "b" / "model.safetensors"
    values = {name: array.copy() for name, array in load_file(path).items()}
    values["model.norm.weight"][3] *= -1
    save_file(values, path)
    with pytest.raises(RuntimeError, match=r"model\.norm\.weight"):
        bench_roundtrip.check_equal(tmp_path / "a", tmp_path / "b")


def test_memory_limit() -> None:
    limit = 10**9 + bench_roundtrip.ALLOWANCE_BYTES
    assert bench_roundtrip.Measurement("x", 1.0, limit, 10**9).within
    assert not bench_roundtrip.Measurement("x", 1.0, limit + 1, 10**9).within


def test_memory_is_what_numpy_takes() -> None:
    # Mapped anew: malloc may hand out memory that an earlier test has left resident.
    block = mmap.mmap(-1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    before = bench_roundtrip._anonymous_bytes()
    np.frombuffer(block, np.uint8)[:] = 1
    grown = bench_roundtrip._anonymous_bytes() - before
    assert 45_000_000 < grown < 100_000_000


@pytest.mark.slow
def test_full_size_2b(tmp_path: Path) -> None:
    measured = bench_roundtrip.run(tmp_path, VARIANTS[0], "bfloat16")
    assert len(measured) == 6
    assert measured[0].array_bytes == 2 * 1_838_128_640
    for step in measured:
        assert step.within, step
