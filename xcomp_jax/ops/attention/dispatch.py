"""Attention: one interface over all implementations, and their selection."""

from __future__ import annotations

import functools
from typing import Any, Literal, overload

from jax import Array
from jaxtyping import Bool, Float

from xcomp_jax.ops.attention import cudnn, pallas_gpu, pallas_tpu, xla
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.choice import choose
from xcomp_jax.ops.partition import over_batch_and_heads
from xcomp_jax.ops.target import Target, current_target

IMPLEMENTATIONS = ("xla", "pallas_tpu", "pallas_gpu", "cudnn")
# The first one that supports the inputs is used. cuDNN comes before the Triton kernel: it uses
# Hopper's asynchronous copies and warp groups, which Triton through Pallas does not reach.
PREFERRED = {
    "cpu": ("xla",),
    "tpu": ("pallas_tpu", "xla"),
    "gpu": ("cudnn", "pallas_gpu", "xla"),
}


@overload
def attention(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    *,
    causal: bool,
    key_mask: Bool[Array, "B S"] | None = None,
    query_offset: int = 0,
    implementation: str | None = None,
    return_lse: Literal[False] = False,
) -> Float[Array, "B Q N H"]: ...
@overload
def attention(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    *,
    causal: bool,
    key_mask: Bool[Array, "B S"] | None = None,
    query_offset: int = 0,
    implementation: str | None = None,
    return_lse: Literal[True],
) -> tuple[Float[Array, "B Q N H"], Float[Array, "B Q N"]]: ...
def attention(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    *,
    causal: bool,
    key_mask: Bool[Array, "B S"] | None = None,
    query_offset: int = 0,
    implementation: str | None = None,
    return_lse: bool = False,
) -> Float[Array, "B Q N H"] | tuple[Float[Array, "B Q N H"], Float[Array, "B Q N"]]:
    """Computes scaled dot-product attention with grouped key/value heads.

    The output of a fully masked row is finite and otherwise unspecified.

    Args:
        query, key, value: with K dividing N.
        causal: row i sees keys 0 .. query_offset + i.
        key_mask: False for keys that no row sees (padding, anywhere).
        query_offset: keys before the first row's own, when a prefix was cached; causal only.
        implementation: one of IMPLEMENTATIONS; None selects the best that supports the inputs on
            the platform the program is compiled for (`ops.target`).
        return_lse: also return the log-sum-exp of each row's scaled scores, by which the results of
            attention to two sets of keys can be merged.

    Returns:
        The output in the dtype of `query`; with `return_lse` also the float32 log-sum-exp. Softmax
        and sums are float32.

    Raises:
        ValueError: inconsistent shapes, or a named implementation that refuses, with the reason.
    """
    problem = Problem.of(query, key, value, causal, key_mask, query_offset, return_lse)
    target = current_target()
    name = _selected(problem, target, implementation)
    if name == "xla":  # which the compiler itself splits over a mesh
        out, lse = xla.attention(
            query, key, value, causal=causal, key_mask=key_mask, query_offset=query_offset
        )
        return (out, lse) if return_lse else out
    kernel = functools.partial(_kernel_attention, name=name, whole=problem, target=target)
    result: Any = over_batch_and_heads(kernel, query, key, value, key_mask)
    return result if return_lse else result[0]


def padded_length(rows: int) -> int:
    """Returns the length to which the current target's kernels pad self-attention of `rows` rows.

    A sequence that already has this length, with its last keys masked, is not copied to be padded.
    """
    match current_target().platform:
        case "tpu":
            return pallas_tpu.padded_length(rows)
        case "gpu":
            return pallas_gpu.padded_length(rows)
    return rows


def _selected(problem: Problem, target: Target, implementation: str | None) -> str:
    return choose(
        "attention",
        implementation,
        {
            "xla": lambda: None,
            "pallas_tpu": lambda: pallas_tpu.refusal(problem, target),
            "pallas_gpu": lambda: pallas_gpu.refusal(problem, target),
            "cudnn": lambda: cudnn.refusal(problem, target),
        },
        PREFERRED.get(target.platform, ("xla",)),
    )


def _kernel_attention(
    query: Array,
    key: Array,
    value: Array,
    key_mask: Array | None,
    *,
    name: str,
    whole: Problem,
    target: Target,
) -> tuple[Array, Array | None]:
    """Runs kernel `name` on one device's part of the problem `whole`."""
    problem = Problem.of(
        query, key, value, whole.causal, key_mask, whole.query_offset, whole.return_lse
    )
    match name:
        case "pallas_tpu":
            return pallas_tpu.attention(problem, query, key, value, key_mask, target=target)
        case "pallas_gpu":
            return pallas_gpu.attention(problem, query, key, value, key_mask, target=target)
    return cudnn.attention(problem, query, key, value, key_mask), None
