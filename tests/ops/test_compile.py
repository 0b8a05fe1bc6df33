"""Tests that the compilers of TPUs and GPUs accept the kernels, on a machine with neither.

TPU cases need libtpu, GPU cases a CUDA plugin of JAX; a driver or a device is never needed. Each
machine is one process: the compilers do not share one with the rest of the suite.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.ops.compile_program import CASES, AttentionCase, CachedCase
from tests.quick import environment_of_users
from xcomp_jax.launch.preflight.machines import MACHINES, missing
from xcomp_jax.ops.attention import pallas_gpu
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.clip_scores import Segments, TextRows
from xcomp_jax.ops.clip_scores import pallas_gpu as gpu_scores
from xcomp_jax.ops.clip_scores.prepare import scores_by
from xcomp_jax.ops.target import Target

REPO = Path(__file__).parents[2]
QUICK = ("small", "small_backward", "scores_small")
FULL = tuple(name for name in CASES if name not in (*QUICK, "bad_blocks"))
TPUS = ("v5e", "v5p", "v6e")
KERNEL_NAMES = {
    "tpu": {
        "forward": {"splash_mha_fwd", "tpu_custom_call"},
        "backward": {"splash_mha_fwd", "splash_mha_dq", "splash_mha_dkv"},
        "scores": {"clip_scores", "tpu_custom_call"},
    },
    "cuda": {
        "forward": {"attention_forward", "__gpu$xla.gpu.triton"},
        "backward": {
            "attention_forward",
            "attention_query_gradient",
            "attention_key_value_gradients",
        },
        "scores": {"clip_scores", "__gpu$xla.gpu.triton"},
    },
}


@functools.cache
def compiled(machine: str, *arguments: str) -> dict[str, dict[str, Any]]:
    """Compiles cases; returns their kernels, memory or errors."""
    if lacking := missing(MACHINES[machine]):
        pytest.skip(f"compiling for {machine} needs: {lacking}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.compile_program", machine, *arguments],
        cwd=REPO,
        env=environment_of_users(),
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])["results"]


def check(machine: str, name: str, made: dict[str, Any]) -> None:
    """Checks that the program has the kernel, and no buffer as large as all scores."""
    assert "error" not in made, made["error"]
    case, names = CASES[name], KERNEL_NAMES[MACHINES[machine].platform]
    if isinstance(case, CachedCase):
        if case.rows == 1:  # the cache is read in place: neither a kernel nor a copy
            assert made["calls"] == []
            assert made["temporary"] < made["arguments"] / 4
            return
        assert names["forward"] <= set(made["calls"])
        scores = 4 * 12 * case.rows * case.cached
        assert made["temporary"] < scores / 4
        return
    if not isinstance(case, AttentionCase):
        assert names["scores"] <= set(made["calls"])
        scores = 2 * 12 * case.rows * case.segments.num_clips * case.segments.clip_tokens
        bound = 20 * 2**20  # on GPU the rotated keys of all segments
        assert made["temporary"] < bound < scores or scores < bound
        return
    needed = names["backward" if case.backward else "forward"]
    if name == "encoder" and MACHINES[machine].platform == "tpu":
        needed = {"pair_attention", "tpu_custom_call"}
    assert needed <= set(made["calls"])
    # Transposed, padded copies and the log-sum-exp: a few times the inputs.
    bound = 6 * made["arguments"]
    assert made["temporary"] < bound
    scores = 2 * case.batch * case.heads * case.rows * (case.rows + case.before)
    assert scores > bound or case.rows < 4096, "too small a case to tell"


def test_tpu_small_program_compiles() -> None:
    for name, made in compiled("v5e", *QUICK).items():
        check("v5e", name, made)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("machine", TPUS)
def test_tpu_kernels_compile(machine: str, name: str) -> None:
    check(machine, name, compiled(machine, *FULL)[name])


@pytest.mark.slow
@pytest.mark.parametrize("machine", TPUS)
def test_tpu_oversized_blocks_refused(machine: str) -> None:
    made = compiled(machine, "bad_blocks")["bad_blocks"]
    assert "vmem" in made.get("error", "").lower(), made


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_gpu_kernels_compile(name: str) -> None:
    check("h200", name, compiled("h200", "pallas_gpu", *FULL)[name])


@pytest.mark.slow
def test_gpu_oversized_blocks_refused() -> None:
    made = compiled("h200", "bad_blocks")["bad_blocks"]
    assert "shared memory" in made.get("error", "").lower(), made


@pytest.mark.slow
def test_gpu_unnamed_kernel_prefers_cudnn() -> None:
    made = compiled("h200", "encoder_backward", "decoder_2b_backward", "cached_prefix")
    assert "cudnn" in made["encoder_backward"]["calls"]
    assert "cudnn" in made["decoder_2b_backward"]["calls"]
    assert "attention_forward" in made["cached_prefix"]["calls"]


CUDA = Target("gpu", "NVIDIA H200")


def lowered_for_cuda(function: Any, *arrays: Any) -> str:
    """Lowers Pallas to Triton, without a plugin."""
    return jax.jit(function).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "causal"), [(12, 2, 128, True), (2, 2, 64, False)]
)
def test_gpu_attention_without_gpu_lowers(
    heads: int, kv_heads: int, size: int, causal: bool
) -> None:
    query = jax.ShapeDtypeStruct((1, 600, heads, size), jnp.bfloat16)
    key = jax.ShapeDtypeStruct((1, 600, kv_heads, size), jnp.bfloat16)
    mask = jax.ShapeDtypeStruct((1, 600), jnp.bool_)
    problem = Problem.of(query, key, key, causal, mask, 0, False)

    def gradients(query, key, value, mask):
        out, pull = jax.vjp(
            lambda *x: pallas_gpu.attention(problem, *x, mask, target=CUDA)[0], query, key, value
        )
        return pull(out)

    text = lowered_for_cuda(gradients, query, key, key, mask)
    for name in KERNEL_NAMES["cuda"]["backward"]:
        assert name in text


def test_gpu_clip_scores_without_gpu_lower() -> None:
    segments = Segments(20, 40, 8, 4)
    arrays = [
        jax.ShapeDtypeStruct((1, tokens, heads, 128), jnp.bfloat16)
        for tokens, heads in ((100, 12), (20, 2), (800, 2), (100, 2))
    ]
    rows = TextRows(*(jax.ShapeDtypeStruct((1,), jnp.int32),) * 4)

    def score(*inputs):
        *keys, rows = inputs
        return scores_by(
            gpu_scores.sums, *keys, segments=segments, rows=rows, rope_theta=1e6, target=CUDA
        )

    assert "clip_scores" in lowered_for_cuda(score, *arrays, rows)
