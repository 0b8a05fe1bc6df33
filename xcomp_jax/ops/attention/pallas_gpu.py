"""Attention on GPU: flash attention in Pallas (Triton), forward here, backward in `gpu_gradients`.

Supports what cuDNN refuses: float32, a cached prefix, the log-sum-exp with its gradient. The mask
of keys is an array [B, S]. Exponentials are to base two, the form that the hardware computes.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Bool, Float

from xcomp_jax.ops.attention.gpu_gradients import key_value_gradients, query_gradient
from xcomp_jax.ops.attention.gpu_kernel import LOG2_E, BlockSizes, Kernel
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.block_sizes import tuned
from xcomp_jax.ops.choice import wrong_platform
from xcomp_jax.ops.padding import pad_rows
from xcomp_jax.ops.target import Target

MASKED = -1e30


def refusal(problem: Problem, target: Target) -> str | None:
    """Returns why this implementation does not support the inputs, or None."""
    if problem.dtype not in (jnp.bfloat16, jnp.float16, jnp.float32):
        return f"dtype {problem.dtype}; it supports bfloat16, float16 and float32"
    if problem.size not in (16, 32, 64, 128):
        return f"head size {problem.size} is not 16, 32, 64 or 128"
    return wrong_platform("gpu", target.platform)


def default_blocks(problem: Problem, target: Target) -> BlockSizes:
    """Returns measured block sizes for the shape, or safe ones."""
    default = BlockSizes()
    if problem.dtype == jnp.float32:  # twice the bytes in the same shared memory
        default = BlockSizes(
            forward_keys=32,
            forward_warps=8,
            forward_stages=2,
            backward_keys=32,
            backward_warps=8,
        )
    return tuned(default, target.device_kind, problem.table_key)


def padded_length(rows: int) -> int:
    """Returns the length to which self-attention of `rows` rows is padded by default."""
    blocks = BlockSizes()
    return _whole(rows, blocks.forward_queries, blocks.backward_queries, blocks.forward_keys)


def attention(
    problem: Problem,
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    key_mask: Bool[Array, "B S"] | None,
    *,
    target: Target,
    blocks: BlockSizes | None = None,
    interpret: bool = False,
) -> tuple[Float[Array, "B Q N H"], Float[Array, "B Q N"]]:
    """Computes attention, see `dispatch.attention`; the log-sum-exp is differentiable too."""
    blocks = blocks or default_blocks(problem, target)
    rows = _whole(problem.rows, blocks.forward_queries, blocks.backward_queries)
    keys = _whole(problem.keys, blocks.forward_keys, blocks.backward_keys)

    out, lse = _flash(
        pad_rows(query, rows),
        pad_rows(key, keys),
        pad_rows(value, keys),
        None if key_mask is None else pad_rows(key_mask.astype(jnp.int8), keys),
        Kernel(problem, blocks, interpret),
    )
    return out[:, : problem.rows], jnp.swapaxes(lse, 1, 2)[:, : problem.rows]


def _whole(length: int, *blocks: int) -> int:
    largest = max(blocks)  # powers of two: the others divide it
    return -(-length // largest) * largest


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _flash(
    query: Array, key: Array, value: Array, mask: Array | None, kernel: Kernel
) -> tuple[Array, Array]:
    """Computes output [B, Q, N, H] and log-sum-exp [B, N, Q] of padded arrays."""
    problem, block = kernel.problem, kernel.blocks.forward_queries
    rows, keys = query.shape[1], key.shape[1]
    blocks = rows // block
    query_spec, key_spec, row_spec = kernel.specs_by_rows(block, rows, keys)
    return tuple(
        kernel.call(
            functools.partial(_forward_kernel, kernel=kernel, blocks=blocks),
            forward=True,
            name="attention_forward",
            grid=(blocks, problem.heads, problem.batch),
            in_specs=[query_spec, key_spec, key_spec, kernel.mask_spec(keys)],
            out_specs=[query_spec, row_spec],
            out_shape=[
                jax.ShapeDtypeStruct(query.shape, query.dtype),
                jax.ShapeDtypeStruct((problem.batch, problem.heads, rows), jnp.float32),
            ],
        )(query, key, value, mask)
    )


def _forward_kernel(
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    mask_ref: Any,
    out_ref: Any,
    lse_ref: Any,
    *,
    kernel: Kernel,
    blocks: int,
) -> None:
    rows, keys = kernel.blocks.forward_queries, kernel.blocks.forward_keys
    query = query_ref[...]
    first_row = kernel.problem.query_offset + (blocks - 1 - pl.program_id(0)) * rows
    row = first_row + jnp.arange(rows)

    def step(j: Array, carry: tuple[Array, ...], *, edge: bool) -> tuple[Array, ...]:
        out, most, total = carry
        here = pl.ds(j * keys, keys)
        scores = kernel.scores(query, key_ref[here, :])
        seen = kernel.visible(mask_ref, row, j * keys, keys, edge=edge)
        if seen is not None:
            scores = jnp.where(seen, scores, MASKED)
        new_most = jnp.maximum(most, jnp.max(scores, axis=1))
        shrink = jnp.exp2(most - new_most)
        weights = jnp.exp2(scores - new_most[:, None])
        value = value_ref[here, :]
        out = out * shrink[:, None] + plgpu.dot(weights.astype(value.dtype), value)
        return out, new_most, total * shrink + jnp.sum(weights, axis=1)

    whole, seen = kernel.key_blocks(first_row, rows, keys)
    carry = (
        jnp.zeros((rows, query.shape[1]), jnp.float32),
        jnp.full((rows,), MASKED, jnp.float32),
        jnp.zeros((rows,), jnp.float32),
    )
    carry = lax.fori_loop(0, whole, functools.partial(step, edge=False), carry)
    out, most, total = lax.fori_loop(whole, seen, functools.partial(step, edge=True), carry)
    out_ref[...] = (out / total[:, None]).astype(out_ref.dtype)
    lse_ref[...] = (most + jnp.log2(total)) / LOG2_E


def _forward(
    query: Array, key: Array, value: Array, mask: Array | None, kernel: Kernel
) -> tuple[tuple[Array, Array], tuple[Any, ...]]:
    out, lse = _flash(query, key, value, mask, kernel)
    return (out, lse), (query, key, value, mask, out, lse)


def _backward(
    kernel: Kernel, saved: tuple[Any, ...], gradients: tuple[Array, Array]
) -> tuple[Array, Array, Array, None]:
    query, key, value, mask, out, lse = saved
    gradient, lse_gradient = gradients
    # The gradient of a row's scores is weights * (gradient @ value - shift).
    shift = jnp.einsum(
        "bqnh,bqnh->bnq", out, gradient, preferred_element_type=jnp.float32
    ) - lse_gradient.astype(jnp.float32)
    arrays = (query, key, value, mask, gradient, lse * LOG2_E, shift)
    return query_gradient(kernel, *arrays), *key_value_gradients(kernel, *arrays), None


_flash.defvjp(_forward, _backward)
