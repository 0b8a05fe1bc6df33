"""Backward kernels of attention on GPU; scores are recomputed block by block."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Float, Int8

from xcomp_jax.ops.attention.gpu_kernel import Kernel


def query_gradient(
    kernel: Kernel,
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    mask: Int8[Array, "B S"] | None,
    gradient: Float[Array, "B Q N H"],
    lse: Float[Array, "B N Q"],
    shift: Float[Array, "B N Q"],
) -> Float[Array, "B Q N H"]:
    """Computes the gradient of the queries from padded arrays."""
    problem, block = kernel.problem, kernel.blocks.backward_queries
    rows, keys = query.shape[1], key.shape[1]
    blocks = rows // block
    query_spec, key_spec, row_spec = kernel.specs_by_rows(block, rows, keys)
    return kernel.call(
        functools.partial(_query_gradient_kernel, kernel=kernel, blocks=blocks),
        forward=False,
        name="attention_query_gradient",
        grid=(blocks, problem.heads, problem.batch),
        in_specs=[
            query_spec,
            key_spec,
            key_spec,
            kernel.mask_spec(keys),
            query_spec,
            row_spec,
            row_spec,
        ],
        out_specs=query_spec,
        out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
    )(query, key, value, mask, gradient, lse, shift)


def _query_gradient_kernel(
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    mask_ref: Any,
    gradient_ref: Any,
    lse_ref: Any,
    shift_ref: Any,
    out_ref: Any,
    *,
    kernel: Kernel,
    blocks: int,
) -> None:
    rows, keys = kernel.blocks.backward_queries, kernel.blocks.backward_keys
    query, gradient = query_ref[...], gradient_ref[...]
    lse, shift = lse_ref[...], shift_ref[...]
    first_row = kernel.problem.query_offset + (blocks - 1 - pl.program_id(0)) * rows
    row = first_row + jnp.arange(rows)

    def step(j: Array, total: Array, *, edge: bool) -> Array:
        here = pl.ds(j * keys, keys)
        key = key_ref[here, :]
        weights = jnp.exp2(kernel.scores(query, key) - lse[:, None])
        seen = kernel.visible(mask_ref, row, j * keys, keys, edge=edge)
        if seen is not None:
            weights = jnp.where(seen, weights, 0.0)
        pull = plgpu.dot(gradient, value_ref[here, :].T).astype(jnp.float32)
        return total + plgpu.dot((weights * (pull - shift[:, None])).astype(key.dtype), key)

    whole, seen = kernel.key_blocks(first_row, rows, keys)
    total = jnp.zeros(query.shape, jnp.float32)
    total = lax.fori_loop(0, whole, functools.partial(step, edge=False), total)
    total = lax.fori_loop(whole, seen, functools.partial(step, edge=True), total)
    out_ref[...] = (total * kernel.scale).astype(out_ref.dtype)


def key_value_gradients(
    kernel: Kernel,
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    mask: Int8[Array, "B S"] | None,
    gradient: Float[Array, "B Q N H"],
    lse: Float[Array, "B N Q"],
    shift: Float[Array, "B N Q"],
) -> tuple[Float[Array, "B S K H"], Float[Array, "B S K H"]]:
    """Computes the gradients of keys and values from padded arrays."""
    problem, block = kernel.problem, kernel.blocks.backward_keys
    rows, keys, group = query.shape[1], key.shape[1], kernel.group
    group_spec = pl.BlockSpec((None, rows, group, problem.size), lambda j, k, b: (b, 0, k, 0))
    key_spec = pl.BlockSpec((None, block, None, problem.size), lambda j, k, b: (b, j, k, 0))
    row_spec = pl.BlockSpec((None, group, rows), lambda j, k, b: (b, k, 0))
    return tuple(
        kernel.call(
            functools.partial(_key_value_gradients_kernel, kernel=kernel, rows=rows),
            forward=False,
            name="attention_key_value_gradients",
            grid=(keys // block, problem.kv_heads, problem.batch),
            in_specs=[
                group_spec,
                key_spec,
                key_spec,
                kernel.mask_spec(keys),
                group_spec,
                row_spec,
                row_spec,
            ],
            out_specs=[key_spec, key_spec],
            out_shape=[
                jax.ShapeDtypeStruct(key.shape, key.dtype),
                jax.ShapeDtypeStruct(value.shape, value.dtype),
            ],
        )(query, key, value, mask, gradient, lse, shift)
    )


def _key_value_gradients_kernel(
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    mask_ref: Any,
    gradient_ref: Any,
    lse_ref: Any,
    shift_ref: Any,
    key_gradient_ref: Any,
    value_gradient_ref: Any,
    *,
    kernel: Kernel,
    rows: int,
) -> None:
    block, keys = kernel.blocks.backward_queries, kernel.blocks.backward_keys
    offset = kernel.problem.query_offset
    key, value = key_ref[...], value_ref[...]
    first_key = pl.program_id(0) * keys

    def step(head: Array, i: Array, carry: tuple[Array, Array], *, edge: bool) -> Any:
        key_total, value_total = carry
        here = pl.ds(i * block, block)
        query, gradient = query_ref[here, head, :], gradient_ref[here, head, :]
        weights = jnp.exp2(kernel.scores(query, key) - lse_ref[head, here][:, None])
        row = offset + i * block + jnp.arange(block)
        seen = kernel.visible(mask_ref, row, first_key, keys, edge=edge)
        if seen is not None:
            weights = jnp.where(seen, weights, 0.0)
        value_total += plgpu.dot(weights.T.astype(gradient.dtype), gradient)
        pull = plgpu.dot(gradient, value.T).astype(jnp.float32)
        turned = weights * (pull - shift_ref[head, here][:, None])
        return key_total + plgpu.dot(turned.T.astype(query.dtype), query), value_total

    blocks = rows // block
    first, whole = _row_blocks(kernel, first_key, blocks)

    def one_head(head: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        carry = lax.fori_loop(first, whole, lambda i, c: step(head, i, c, edge=True), carry)
        return lax.fori_loop(whole, blocks, lambda i, c: step(head, i, c, edge=False), carry)

    zero = jnp.zeros(key.shape, jnp.float32)
    key_total, value_total = lax.fori_loop(0, kernel.group, one_head, (zero, zero))
    key_gradient_ref[...] = (key_total * kernel.scale).astype(key_gradient_ref.dtype)
    value_gradient_ref[...] = value_total.astype(value_gradient_ref.dtype)


def _row_blocks(kernel: Kernel, first_key: Array, blocks: int) -> tuple[Any, Any]:
    """Computes the first block of rows that sees a block of keys, and the first to see all of it.

    Rows before the first index see none of these keys, rows from the second on see all.
    """
    block, keys = kernel.blocks.backward_queries, kernel.blocks.backward_keys
    offset = kernel.problem.query_offset
    if kernel.problem.causal:
        first = jnp.clip(lax.div(jnp.maximum(first_key - offset, 0), block), 0, blocks)
        behind = jnp.maximum(first_key + keys - 1 - offset, 0)
        return first, jnp.clip(lax.div(behind + block - 1, block), first, blocks)
    if kernel.problem.keys % keys:  # the last block holds padding
        last = kernel.problem.keys // keys
        # A product: of the loop that a `where` bounds, Pallas mistakes the index for a boolean.
        return 0, blocks * (pl.program_id(0) == last).astype(jnp.int32)
    return 0, 0
