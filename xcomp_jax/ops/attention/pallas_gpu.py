"""Attention on GPU: flash attention in Pallas (Triton), forward and backward.

Written for what cuDNN refuses: float32, a cached prefix, the log-sum-exp with its gradient. Keys
nobody may see are read from a [B, S'] mask. Exponentials are to base two, which the hardware has.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.block_sizes import shape_key, tuned
from xcomp_jax.ops.choice import wrong_platform
from xcomp_jax.ops.target import Target

MASKED = -1e30
LOG2_E = math.log2(math.e)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """Rows of queries and of keys in one block, powers of two from 16; warps and pipeline stages.

    Defaults are the largest that Hopper's registers hold for heads of 128 (NOTES.md).
    """

    forward_queries: int = 128
    forward_keys: int = 128
    forward_warps: int = 8
    forward_stages: int = 2
    backward_queries: int = 64
    backward_keys: int = 64
    backward_warps: int = 8
    backward_stages: int = 2

    def __post_init__(self) -> None:
        for name in ("forward_queries", "forward_keys", "backward_queries", "backward_keys"):
            size = getattr(self, name)
            if size < 16 or size & (size - 1):
                raise ValueError(f"{name}={size} must be a power of two and at least 16")


def refusal(problem: Problem, target: Target) -> str | None:
    """Why this implementation does not take the inputs, or None."""
    if problem.dtype not in (jnp.bfloat16, jnp.float16, jnp.float32):
        return f"dtype {problem.dtype}; it takes bfloat16, float16 and float32"
    if problem.size not in (16, 32, 64, 128):
        return f"head size {problem.size} is not 16, 32, 64 or 128"
    return wrong_platform("gpu", target.platform)


def default_blocks(problem: Problem, target: Target) -> BlockSizes:
    """Measured block sizes for the shape, or safe ones."""
    key = shape_key(
        "attention",
        causal=problem.causal,
        h=problem.size,
        rows=problem.rows,
        keys=problem.keys,
    )
    default = BlockSizes()
    if problem.dtype == jnp.float32:  # twice the bytes in the same shared memory
        default = BlockSizes(forward_queries=64, forward_keys=32, backward_keys=32)
    return tuned(default, target.device_kind, key)


def attention(
    problem: Problem,
    query: Array,
    key: Array,
    value: Array,
    key_mask: Array | None,
    *,
    target: Target,
    blocks: BlockSizes | None = None,
    interpret: bool = False,
) -> tuple[Array, Array]:
    """See `dispatch.attention`. Differentiable, the log-sum-exp too."""
    blocks = blocks or default_blocks(problem, target)
    rows = _whole(problem.rows, blocks.forward_queries, blocks.backward_queries)
    keys = _whole(problem.keys, blocks.forward_keys, blocks.backward_keys)

    def padded(x: Array, length: int) -> Array:
        return jnp.pad(x, ((0, 0), (0, length - x.shape[1])) + ((0, 0),) * (x.ndim - 2))

    out, lse = _flash(
        padded(query, rows),
        padded(key, keys),
        padded(value, keys),
        None if key_mask is None else padded(key_mask.astype(jnp.int8), keys),
        _Kernel(problem, blocks, interpret),
    )
    return out[:, : problem.rows], jnp.swapaxes(lse, 1, 2)[:, : problem.rows]


def _whole(length: int, *blocks: int) -> int:
    largest = max(blocks)  # powers of two: the others divide it
    return -(-length // largest) * largest


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """Everything static about one call."""

    problem: Problem
    blocks: BlockSizes
    interpret: bool

    @property
    def group(self) -> int:
        return self.problem.heads // self.problem.kv_heads

    @property
    def scale(self) -> float:
        return self.problem.size**-0.5

    def last_block(self, keys: int) -> int:
        """Index past the last block of `keys` that holds a real key."""
        return -(-self.problem.keys // keys)

    def call(self, body: Any, *, forward: bool, name: str, **arguments: Any) -> Any:
        size = "forward" if forward else "backward"
        return pl.pallas_call(
            body,
            compiler_params=plgpu.CompilerParams(
                num_warps=getattr(self.blocks, f"{size}_warps"),
                num_stages=getattr(self.blocks, f"{size}_stages"),
            ),
            interpret=self.interpret,
            name=name,
            **arguments,
        )

    def scores(self, query: Array, key: Array) -> Array:
        """To base two, float32."""
        return plgpu.dot(query, key.T).astype(jnp.float32) * (self.scale * LOG2_E)

    def visible(
        self, mask: Any, row: Array, first_key: Array, keys: int, *, edge: bool
    ) -> Array | None:
        """[rows, keys] who sees whom, or None where everybody does.

        edge: the block may hold keys that are later than a row, or behind the last key.
        """
        seen = None
        key = first_key + jnp.arange(keys)
        if edge:
            seen = (key < self.problem.keys)[None, :]
            if self.problem.causal:
                seen = seen & (row[:, None] >= key[None, :])
        if mask is not None:
            given = (mask[pl.ds(first_key, keys)].astype(jnp.int32) != 0)[None, :]
            seen = given if seen is None else seen & given
        return seen

    def key_blocks(self, first_row: Array, rows: int, keys: int) -> tuple[Any, Any]:
        """Blocks of keys that rows from `first_row` on see whole, and that they see at all."""
        last = self.last_block(keys)
        if not self.problem.causal:
            return self.problem.keys // keys, last
        whole = lax.div(first_row + 1, keys)
        seen = lax.div(first_row + rows + keys - 1, keys)
        return jnp.minimum(whole, self.problem.keys // keys), jnp.minimum(seen, last)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _flash(
    query: Array, key: Array, value: Array, mask: Array | None, kernel: _Kernel
) -> tuple[Array, Array]:
    """Padded arrays to output [B, S, N, H] and log-sum-exp [B, N, S]."""
    problem, block = kernel.problem, kernel.blocks.forward_queries
    rows, keys = query.shape[1], key.shape[1]
    blocks = rows // block
    group = kernel.group

    def query_block(i: Array, head: Array, example: Array) -> tuple[Any, ...]:
        return example, blocks - 1 - i, head, 0  # causally the last rows are the longest work

    def kv_head(i: Array, head: Array, example: Array) -> tuple[Any, ...]:
        return example, 0, lax.div(head, group), 0

    query_spec = pl.BlockSpec((None, block, None, problem.size), query_block)
    key_spec = pl.BlockSpec((None, keys, None, problem.size), kv_head)
    return tuple(
        kernel.call(
            functools.partial(_forward_kernel, kernel=kernel, blocks=blocks),
            forward=True,
            name="attention_forward",
            grid=(blocks, problem.heads, problem.batch),
            in_specs=[
                query_spec,
                key_spec,
                key_spec,
                None if mask is None else pl.BlockSpec((None, keys), lambda i, h, b: (b, 0)),
            ],
            out_specs=[
                query_spec,
                pl.BlockSpec((None, None, block), lambda i, h, b: (b, h, blocks - 1 - i)),
            ],
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
    kernel: _Kernel,
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
    query: Array, key: Array, value: Array, mask: Array | None, kernel: _Kernel
) -> tuple[tuple[Array, Array], tuple[Any, ...]]:
    out, lse = _flash(query, key, value, mask, kernel)
    return (out, lse), (query, key, value, mask, out, lse)


def _backward(
    kernel: _Kernel, saved: tuple[Any, ...], gradients: tuple[Array, Array]
) -> tuple[Array, Array, Array, None]:
    query, key, value, mask, out, lse = saved
    gradient, lse_gradient = gradients
    # The gradient of a row's scores is weights * (gradient @ value - shift).
    shift = jnp.einsum(
        "bqnh,bqnh->bnq", out, gradient, preferred_element_type=jnp.float32
    ) - lse_gradient.astype(jnp.float32)
    arrays = (query, key, value, mask, gradient, lse * LOG2_E, shift)
    return _query_gradient(kernel, *arrays), *_key_value_gradients(kernel, *arrays), None


_flash.defvjp(_forward, _backward)


def _query_gradient(
    kernel: _Kernel,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    gradient: Array,
    lse: Array,
    shift: Array,
) -> Array:
    problem, block = kernel.problem, kernel.blocks.backward_queries
    keys, group, blocks = key.shape[1], kernel.group, query.shape[1] // block
    query_spec = pl.BlockSpec(
        (None, block, None, problem.size), lambda i, h, b: (b, blocks - 1 - i, h, 0)
    )
    key_spec = pl.BlockSpec(
        (None, keys, None, problem.size), lambda i, h, b: (b, 0, lax.div(h, group), 0)
    )
    row_spec = pl.BlockSpec((None, None, block), lambda i, h, b: (b, h, blocks - 1 - i))
    return kernel.call(
        functools.partial(_query_gradient_kernel, kernel=kernel, blocks=blocks),
        forward=False,
        name="attention_query_gradient",
        grid=(blocks, problem.heads, problem.batch),
        in_specs=[
            query_spec,
            key_spec,
            key_spec,
            None if mask is None else pl.BlockSpec((None, keys), lambda i, h, b: (b, 0)),
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
    kernel: _Kernel,
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


def _key_value_gradients(
    kernel: _Kernel,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    gradient: Array,
    lse: Array,
    shift: Array,
) -> tuple[Array, Array]:
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
                None if mask is None else pl.BlockSpec((None, keys), lambda j, k, b: (b, 0)),
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
    kernel: _Kernel,
    rows: int,
) -> None:
    block, keys = kernel.blocks.backward_queries, kernel.blocks.backward_keys
    offset, causal = kernel.problem.query_offset, kernel.problem.causal
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

    # Rows before `first` see none of these keys, rows from `whole` on see all.
    blocks = rows // block
    first: Any = 0
    whole: Any
    if causal:
        first = jnp.clip(lax.div(jnp.maximum(first_key - offset, 0), block), 0, blocks)
        behind = jnp.maximum(first_key + keys - 1 - offset, 0)
        whole = jnp.clip(lax.div(behind + block - 1, block), first, blocks)
    elif kernel.problem.keys % keys:  # the last block holds keys that are none
        last = kernel.problem.keys // keys
        # A product: of the loop that a `where` bounds, Pallas mistakes the index for a boolean.
        whole = blocks * (pl.program_id(0) == last).astype(jnp.int32)
    else:
        whole = 0

    def one_head(head: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        carry = lax.fori_loop(first, whole, lambda i, c: step(head, i, c, edge=True), carry)
        return lax.fori_loop(whole, blocks, lambda i, c: step(head, i, c, edge=False), carry)

    zero = jnp.zeros(key.shape, jnp.float32)
    key_total, value_total = lax.fori_loop(0, kernel.group, one_head, (zero, zero))
    key_gradient_ref[...] = (key_total * kernel.scale).astype(key_gradient_ref.dtype)
    value_gradient_ref[...] = value_total.astype(value_gradient_ref.dtype)
