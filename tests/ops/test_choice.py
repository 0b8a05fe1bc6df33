"""Selection of the implementation of attention, refusals, and kernels on a mesh."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import printed_on_eight_devices
from xcomp_jax.ops import block_sizes
from xcomp_jax.ops.attention import IMPLEMENTATIONS, attention, cudnn, pallas_gpu, pallas_tpu
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.choice import choose
from xcomp_jax.ops.target import Target, current_target

SIZES = {"rows": 8, "keys": 8, "size": 64}


def problem(**changes) -> Problem:
    rows, keys, size = (changes.pop(name, n) for name, n in SIZES.items())
    dtype = changes.pop("dtype", jnp.bfloat16)
    query = jax.ShapeDtypeStruct((1, rows, 4, size), dtype)
    key = jax.ShapeDtypeStruct((1, keys, 2, size), dtype)
    options = {"causal": True, "key_mask": None, "query_offset": keys - rows, "return_lse": False}
    return Problem.of(query, key, key, **{**options, **changes})


def test_choose_unnamed_first_supported_selected() -> None:
    refusals = {"a": lambda: "unsupported", "b": lambda: None, "c": lambda: None}
    assert choose("op", None, refusals, ["a", "b", "c"]) == "b"
    assert choose("op", "c", refusals, ["a", "b", "c"]) == "c"
    with pytest.raises(ValueError, match="op: implementation 'a' refuses: unsupported"):
        choose("op", "a", refusals, ["a", "b"])
    with pytest.raises(ValueError, match=r"'d' not found; known: \['a', 'b', 'c'\]"):
        choose("op", "d", refusals, ["a"])
    with pytest.raises(ValueError, match="no implementation accepts the inputs: a: unsupported"):
        choose("op", None, refusals, ["a"])


def test_attention_on_cpu_uses_xla_only() -> None:
    assert current_target().platform == "cpu"
    query, key = jnp.ones((1, 8, 4, 64)), jnp.ones((1, 8, 2, 64))
    np.testing.assert_allclose(attention(query, key, key, causal=True), query, atol=1e-6)
    for name in set(IMPLEMENTATIONS) - {"xla", "cudnn"}:
        with pytest.raises(ValueError, match=f"{name!r} refuses: it runs on .* compiled for cpu"):
            attention(query, key, key, causal=True, implementation=name)


GPU, TPU = Target("gpu", "NVIDIA H200"), Target("tpu", "TPU v5 lite")


@pytest.mark.parametrize(
    ("module", "target", "changes", "words"),
    [
        (pallas_tpu, TPU, {}, None),
        (pallas_tpu, TPU, {"dtype": jnp.float16}, "dtype float16"),
        (pallas_tpu, TPU, {"size": 80}, "head size 80"),
        (pallas_tpu, TPU, {"rows": 2**21, "keys": 2**21}, None),
        (pallas_tpu, GPU, {}, "it runs on tpu, but the program is compiled for gpu"),
        (pallas_gpu, GPU, {"rows": 3, "return_lse": True}, None),
        (pallas_gpu, GPU, {"size": 96}, "head size 96"),
        (cudnn, GPU, {"dtype": jnp.float32}, "dtype float32"),
        (cudnn, GPU, {"size": 256}, "head size 256"),
        (cudnn, GPU, {"return_lse": True}, "return_lse"),
        (cudnn, GPU, {"rows": 3}, "3 causal rows over 8 keys"),
        (cudnn, TPU, {}, "it runs on gpu"),
    ],
)
def test_refusal_unsupported_input_names_reason(
    module, target: Target, changes: dict, words
) -> None:
    reason = module.refusal(problem(**changes), target)
    assert (reason is None) if words is None else (words in reason)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query_offset": 1}, r"query_offset=1 must lie in \[0, 0\]"),
        ({"causal": False, "query_offset": 1}, "query_offset=1 requires causal"),
        ({"key_mask": jnp.ones((1, 7), bool)}, r"must be \(1, 8\)"),
    ],
)
def test_problem_inconsistent_shapes_refused(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        problem(**changes)


def test_block_sizes_table_entry_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = block_sizes.shape_key("attention", causal=True, h=128, rows=17247, keys=17247)
    assert key == "attention/causal1_h128_keys32768_rows32768"
    table = tmp_path / "table.json"
    entries = {key: {"forward_keys": 2048}, "attention/invalid": {"forward_keys": 100}}
    table.write_text(json.dumps({"TPU v9": entries}))
    monkeypatch.setattr(block_sizes, "TABLE", table)
    block_sizes._table.cache_clear()
    default = pallas_tpu.BlockSizes()
    assert block_sizes.tuned(default, "TPU v9", key).forward_keys == 2048
    assert block_sizes.tuned(default, "TPU v8", key) == default
    with pytest.raises(ValueError, match="forward_keys=100 must be a positive multiple of 128"):
        block_sizes.tuned(default, "TPU v9", "attention/invalid")
    block_sizes._table.cache_clear()


@pytest.mark.parametrize("length", [1, 128, 129, 863, 6272, 17247, 66399])
def test_evenly_any_length_pads_least(length: int) -> None:
    block = block_sizes.evenly(length, 1024, 128)
    assert block % 128 == 0
    assert block <= 1024
    padded = -(-length // block) * block
    best = min(-(-length // size) * size for size in range(128, 1025, 128))
    assert padded - length < 128 * -(-length // 1024)
    assert padded >= best


def test_kernels_on_mesh_process_local_shards() -> None:
    """Runs on eight CPU devices; the `kernel` is XLA's attention, which records its shapes."""
    result = printed_on_eight_devices("tests.ops.mesh_program", timeout=300)
    assert result["shapes"] == {
        "none": [4, 4, 2],
        "all": [1, 2, 1],  # batch over data and fsdp, heads over tensor
        "one head": [1, 4, 1],  # which tensor=2 cannot split
        "odd batch": [3, 2, 1],  # which data=2, fsdp=2 cannot split
        "inside": [1, 4, 2],
    }
    assert result["difference"] < 1e-6
