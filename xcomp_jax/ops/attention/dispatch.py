"""`attention`: one interface, and the choice of who computes it."""

from __future__ import annotations

from typing import Any, Literal, overload

from jax import Array

from xcomp_jax.ops.attention import cudnn, pallas_gpu, pallas_tpu, xla
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.choice import choose
from xcomp_jax.ops.partition import over_batch_and_heads
from xcomp_jax.ops.target import current_target

IMPLEMENTATIONS = ("xla", "pallas_tpu", "pallas_gpu", "cudnn")
# First that accepts. cuDNN before our Triton kernel: the vendor's kernel uses what only Hopper has
# (asynchronous copies by hardware, warp groups), which Triton through Pallas does not reach.
PREFERRED = {
    "cpu": ("xla",),
    "tpu": ("pallas_tpu", "xla"),
    "gpu": ("cudnn", "pallas_gpu", "xla"),
}


@overload
def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool,
    key_mask: Array | None = None,
    query_offset: int = 0,
    implementation: str | None = None,
    return_lse: Literal[False] = False,
) -> Array: ...
@overload
def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool,
    key_mask: Array | None = None,
    query_offset: int = 0,
    implementation: str | None = None,
    return_lse: Literal[True],
) -> tuple[Array, Array]: ...
def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool,
    key_mask: Array | None = None,
    query_offset: int = 0,
    implementation: str | None = None,
    return_lse: bool = False,
) -> Array | tuple[Array, Array]:
    """Scaled dot-product attention with grouped key/value heads.

    A row that sees no key at all (padding) gives something finite and otherwise unspecified.

    Args:
        query: [B, S, N, H].
        key, value: [B, S', K, H] with K dividing N.
        causal: row i sees keys 0 .. query_offset + i.
        key_mask: [B, S'] bool, False for keys nobody may see (padding, anywhere).
        query_offset: keys before the first row's own, when a prefix was cached; causal only.
        implementation: one of IMPLEMENTATIONS; None takes the best that accepts the inputs on the
            platform the program is compiled for (`ops.target`).
        return_lse: also return the log-sum-exp of each row's scaled scores, by which the results of
            attending to two sets of keys can be merged.

    Returns:
        [B, S, N, H] in the dtype of `query`; with `return_lse` also [B, S, N] float32. Softmax and
        sums are float32.

    Raises:
        ValueError: shapes that do not fit, or a named implementation that refuses, with the reason.
    """
    problem = Problem.of(query, key, value, causal, key_mask, query_offset, return_lse)
    target = current_target()
    chosen = choose(
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
    if chosen == "xla":  # which XLA itself splits over a mesh
        out, lse = xla.attention(
            query, key, value, causal=causal, key_mask=key_mask, query_offset=query_offset
        )
        return (out, lse) if return_lse else out

    def kernel(
        query: Array, key: Array, value: Array, key_mask: Array | None
    ) -> tuple[Array, Array | None]:
        local = Problem.of(query, key, value, causal, key_mask, query_offset, return_lse)
        match chosen:
            case "pallas_tpu":
                return pallas_tpu.attention(local, query, key, value, key_mask, target=target)
            case "pallas_gpu":
                return pallas_gpu.attention(local, query, key, value, key_mask, target=target)
        return cudnn.attention(local, query, key, value, key_mask), None

    result: Any = over_batch_and_heads(kernel, query, key, value, key_mask)
    return result if return_lse else result[0]
