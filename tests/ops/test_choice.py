"""Who computes attention: the choice, its refusals, and kernels on a mesh."""

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


def test_none_takes_the_first_that_accepts_and_a_name_is_obeyed() -> None:
    refusals = {"a": lambda: "a is tired", "b": lambda: None, "c": lambda: None}
    assert choose("op", None, refusals, ["a", "b", "c"]) == "b"
    assert choose("op", "c", refusals, ["a", "b", "c"]) == "c"
    with pytest.raises(ValueError, match="op: implementation 'a' refuses: a is tired"):
        choose("op", "a", refusals, ["a", "b"])
    with pytest.raises(ValueError, match=r"'d' not found; known: \['a', 'b', 'c'\]"):
        choose("op", "d", refusals, ["a"])
    with pytest.raises(ValueError, match="no implementation accepts the inputs: a: a is tired"):
        choose("op", None, refusals, ["a"])


def test_a_cpu_takes_xla_and_refuses_kernels() -> None:
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
def test_refusals_name_what_is_wrong(module, target: Target, changes: dict, words) -> None:
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
def test_shapes_that_do_not_fit_are_named(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        problem(**changes)


def test_table_of_block_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = block_sizes.shape_key("attention", causal=True, h=128, rows=17247, keys=17247)
    assert key == "attention/causal1_h128_keys32768_rows32768"
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"TPU v9": {key: {"forward_keys": 2048}}}))
    monkeypatch.setattr(block_sizes, "TABLE", table)
    block_sizes._table.cache_clear()
    default = pallas_tpu.BlockSizes()
    assert block_sizes.tuned(default, "TPU v9", key).forward_keys == 2048
    assert block_sizes.tuned(default, "TPU v8", key) == default
    block_sizes._table.cache_clear()


def test_every_entry_of_the_table_fits_its_kernel() -> None:
    from xcomp_jax.ops.clip_scores import pallas_gpu as gpu_scores
    from xcomp_jax.ops.clip_scores import pallas_tpu as tpu_scores

    kernels = {
        ("attention", True): pallas_tpu,
        ("attention", False): pallas_gpu,
        ("clip_scores", True): tpu_scores,
        ("clip_scores", False): gpu_scores,
    }
    for device, entries in json.loads(block_sizes.TABLE.read_text()).items():
        for key, sizes in entries.items():
            kernels[key.split("/")[0], device.startswith("TPU")].BlockSizes(**sizes)


@pytest.mark.parametrize("length", [1, 128, 129, 863, 6272, 17247, 66399])
def test_blocks_are_spread_evenly(length: int) -> None:
    block = block_sizes.evenly(length, 1024, 128)
    assert block % 128 == 0
    assert block <= 1024
    padded = -(-length // block) * block
    best = min(-(-length // size) * size for size in range(128, 1025, 128))
    assert padded - length < 128 * -(-length // 1024)
    assert padded >= best


def test_kernels_on_a_mesh_are_given_their_own_share() -> None:
    """Eight CPU devices; the `kernel` is XLA's attention, which notes the shapes it was given."""
    result = printed_on_eight_devices("tests.ops.mesh_program", timeout=300)
    assert result["shapes"] == {
        "none": [4, 4, 2],
        "all": [1, 2, 1],  # batch over data and fsdp, heads over tensor
        "one head": [1, 4, 1],  # which tensor=2 cannot split
        "odd batch": [3, 2, 1],  # which data=2, fsdp=2 cannot split
        "inside": [1, 4, 2],
    }
    assert result["difference"] < 1e-6
