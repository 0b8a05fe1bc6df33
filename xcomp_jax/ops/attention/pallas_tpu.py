"""Attention on TPU through JAX's splash attention kernel.

This module adds the block tables, the padding, and the masked keys, which become segment ids. Block
tables are computed by formula; JAX's own helper evaluates the mask, 13 s for 66k tokens.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask_info as mask_info,
)
from jaxtyping import Bool, Float

from xcomp_jax.ops.attention import pair_kernel
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.block_sizes import evenly, tuned
from xcomp_jax.ops.choice import wrong_platform
from xcomp_jax.ops.padding import pad_rows
from xcomp_jax.ops.target import Target

LANES = 128
SEGMENT, NO_SEGMENT = 1, 0
# Of 1 MiB, less other scalars: 513 x 513 blocks (525k tokens) compile.
SCALAR_MEMORY = 1_024_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """Largest numbers of queries and keys in one block, multiples of 128.

    forward_compute, dkv_compute: keys multiplied at a time, a part of the fetched block.
    """

    forward_queries: int = 1024
    forward_keys: int = 1024
    forward_compute: int = 512
    dkv_queries: int = 1024
    dkv_keys: int = 1024
    dkv_compute: int = 512
    dq_queries: int = 1024
    dq_keys: int = 1024

    def __post_init__(self) -> None:
        for name, size in dataclasses.asdict(self).items():
            if size < LANES or size % LANES:
                raise ValueError(f"{name}={size} must be a positive multiple of {LANES}")


def refusal(problem: Problem, target: Target) -> str | None:
    """Returns why this implementation does not support the inputs, or None."""
    if problem.dtype not in (jnp.bfloat16, jnp.float32):
        return f"dtype {problem.dtype}; it supports bfloat16 and float32"
    if problem.size % 64:
        return f"head size {problem.size} is not a multiple of 64"
    return wrong_platform("tpu", target.platform)


def default_blocks(problem: Problem, target: Target) -> BlockSizes:
    """Returns measured block sizes for the shape, or safe ones."""
    return tuned(BlockSizes(), target.device_kind, problem.table_key)


def padded_length(rows: int) -> int:
    """Returns the length to which self-attention of `rows` rows is padded by default."""
    block = evenly(rows, BlockSizes().forward_queries, LANES)
    return _padded_length(rows, block)


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
) -> tuple[Float[Array, "B Q N H"], Float[Array, "B Q N"] | None]:
    """Computes attention, see `dispatch.attention`; differentiable without the log-sum-exp."""
    if blocks is None and pair_kernel.accepts(problem):
        return _attend_pairs(problem, target, interpret, query, key, value), None
    blocks = blocks or default_blocks(problem, target)
    attend = functools.partial(_attend, blocks=blocks, interpret=interpret)
    step = _rows_at_once(problem, blocks)
    if step >= problem.rows:
        return attend(problem, query, key, value, key_mask)
    parts = []
    for start in range(0, problem.rows, step):
        stop = min(start + step, problem.rows)
        offset = problem.query_offset + start
        seen = min(problem.keys, problem.query_offset + stop)
        part = dataclasses.replace(problem, rows=stop - start, keys=seen, query_offset=offset)
        mask = None if key_mask is None else key_mask[:, :seen]
        parts.append(attend(part, query[:, start:stop], key[:, :seen], value[:, :seen], mask))
    out, lse = zip(*parts, strict=True)
    return jnp.concatenate(out, 1), jnp.concatenate(lse, 1) if problem.return_lse else None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _attend_pairs(
    problem: Problem, target: Target, interpret: bool, query: Array, key: Array, value: Array
) -> Array:
    """Runs the kernel for pairs of heads; with gradients, splash attention, which has them."""
    return pair_kernel.attention(query, key, value, interpret=interpret)


def _pairs_forward(
    problem: Problem, target: Target, interpret: bool, query: Array, key: Array, value: Array
) -> tuple[Array, Any]:
    blocks = default_blocks(problem, target)

    def splash_attention(query: Array, key: Array, value: Array) -> Array:
        return _attend(problem, query, key, value, None, blocks=blocks, interpret=interpret)[0]

    return jax.vjp(splash_attention, query, key, value)


def _pairs_backward(
    problem: Problem, target: Target, interpret: bool, pull: Any, gradient: Array
) -> tuple[Array, Array, Array]:
    return pull(gradient)


_attend_pairs.defvjp(_pairs_forward, _pairs_backward)


def _rows_at_once(problem: Problem, blocks: BlockSizes) -> int:
    """Computes the rows of one call: all, unless causal block tables would fill scalar memory."""
    for parts in range(1, 1 + problem.rows // LANES):
        step = -(-problem.rows // parts)
        if _table_bytes(dataclasses.replace(problem, rows=step), blocks) <= SCALAR_MEMORY:
            return step
    return LANES


def _attend(
    problem: Problem,
    query: Array,
    key: Array,
    value: Array,
    key_mask: Array | None,
    *,
    blocks: BlockSizes,
    interpret: bool,
) -> tuple[Array, Array | None]:
    """Runs one call of the kernel over padded blocks."""
    blocks = _fitted(blocks, problem)
    rows = _padded_length(
        problem.rows, blocks.forward_queries, blocks.dkv_queries, blocks.dq_queries
    )
    keys = _padded_length(problem.keys, blocks.forward_keys, blocks.dkv_keys, blocks.dq_keys)
    kernel = _kernel(problem, blocks, rows, keys, interpret)

    def heads_first(x: Array, length: int) -> Array:
        return jnp.swapaxes(pad_rows(x, length), 1, 2)  # B N S H

    segments = None
    # Under a causal mask, the keys that pad the last block come after every real row.
    if key_mask is not None or (keys > problem.keys and not problem.causal):
        seen = jnp.ones((problem.batch, problem.keys), bool) if key_mask is None else key_mask
        seen = pad_rows(seen, keys)
        segments = splash.SegmentIds(
            q=jnp.full((problem.batch, rows), SEGMENT, jnp.int32),
            kv=jnp.where(seen, SEGMENT, NO_SEGMENT).astype(jnp.int32),
        )
    result: Any = jax.vmap(kernel)(
        heads_first(query * problem.size**-0.5, rows),
        heads_first(key, keys),
        heads_first(value, keys),
        segments,
    )
    out, lse = (result[0], result[1][0]) if problem.return_lse else (result, None)
    out = jnp.swapaxes(out, 1, 2)[:, : problem.rows]
    return out, None if lse is None else jnp.swapaxes(lse, 1, 2)[:, : problem.rows]


def _fitted(blocks: BlockSizes, problem: Problem) -> BlockSizes:
    """Shrinks blocks so that the lengths of `problem` are padded least."""
    rows = functools.partial(evenly, problem.rows, unit=LANES)
    keys = functools.partial(evenly, problem.keys, unit=LANES)
    forward_keys, dkv_keys = keys(blocks.forward_keys), keys(blocks.dkv_keys)
    return BlockSizes(
        forward_queries=rows(blocks.forward_queries),
        forward_keys=forward_keys,
        forward_compute=_part(forward_keys, blocks.forward_compute),
        dkv_queries=rows(blocks.dkv_queries),
        dkv_keys=dkv_keys,
        dkv_compute=_part(dkv_keys, blocks.dkv_compute),
        dq_queries=rows(blocks.dq_queries),
        dq_keys=keys(blocks.dq_keys),
    )


def _part(block: int, largest: int) -> int:
    """Finds the largest multiple of 128 up to `largest` that divides `block`.

    A prime count of units stays whole, as parts of 128 would cost more than they save.
    """
    units = block // LANES
    best = max(n for n in range(1, units + 1) if units % n == 0 and n * LANES <= largest)
    return block if best == 1 else best * LANES


def _table_bytes(problem: Problem, blocks: BlockSizes) -> int:
    """Computes the bytes of the forward block tables (int16 and int8) in scalar memory."""
    if not problem.causal:
        return 0
    blocks = _fitted(blocks, problem)
    rows = -(-problem.rows // blocks.forward_queries)
    keys = _padded_length(-(-problem.keys // blocks.forward_keys), LANES)
    return keys * (2 * _padded_length(rows, 8) + _padded_length(rows, 32))


def _padded_length(length: int, *blocks: int) -> int:
    whole = int(np.lcm.reduce(blocks))
    return -(-length // whole) * whole


@functools.lru_cache(maxsize=256)
def _kernel(
    problem: Problem, blocks: BlockSizes, rows: int, keys: int, interpret: bool
) -> splash.SplashAttentionKernel:
    def info(queries: int, keys_: int, *, keys_first: bool = False) -> mask_info.MaskInfo:
        if not problem.causal:
            return mask_info.MaskInfo(None, None, None, None, None)
        return _causal_blocks(
            rows, keys, queries, keys_, problem.query_offset, keys_first=keys_first
        )

    return splash.SplashAttentionKernel(
        info(blocks.forward_queries, blocks.forward_keys),
        info(blocks.dq_queries, blocks.dq_keys),
        info(blocks.dkv_queries, blocks.dkv_keys, keys_first=True),
        block_sizes=splash.BlockSizes(
            block_q=blocks.forward_queries,
            block_kv=blocks.forward_keys,
            block_kv_compute=blocks.forward_compute,
            block_q_dkv=blocks.dkv_queries,
            block_kv_dkv=blocks.dkv_keys,
            block_kv_dkv_compute=blocks.dkv_compute,
            block_q_dq=blocks.dq_queries,
            block_kv_dq=blocks.dq_keys,
        ),
        is_mqa=False,
        save_residuals=problem.return_lse,
        mask_value=splash.DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name=None,
        mask_function=_not_later if problem.causal else None,
        interpret=interpret,
    )


def _not_later(query_position: Array, key_position: Array) -> Array:
    return query_position >= key_position


def _causal_blocks(
    rows: int, keys: int, block_rows: int, block_keys: int, offset: int, *, keys_first: bool
) -> mask_info.MaskInfo:
    """Computes the blocks that a causal mask skips, and the block to fetch while skipping.

    Args:
        keys_first: the kernel iterates over the rows for each block of keys (gradients of keys and
            values) instead of over the keys for each block of rows.
    """
    first_row = offset + np.arange(rows // block_rows)[:, None] * block_rows
    first_key = np.arange(keys // block_keys)[None, :] * block_keys
    seen = first_key <= first_row + block_rows - 1
    whole = first_key + block_keys - 1 <= first_row
    row_index, key_index = np.indices(seen.shape)
    if keys_first:
        # Masked blocks come before the first visible one, which is fetched meanwhile.
        following = np.clip((first_key - offset) // block_rows, 0, seen.shape[0] - 1)
        fetch = np.where(seen, row_index, following)
    else:
        fetch = np.where(seen, key_index, 0)  # masked ones end a row of blocks
    small = np.int8 if max(seen.shape) <= 127 else np.int16  # scalar memory is scarce
    return mask_info.MaskInfo(
        data_next=fetch[None].astype(small),
        mask_next=None,
        block_mask=np.where(whole, 2, seen.astype(int))[None].astype(np.int8),
        partial_mask_blocks=None,
        q_sequence=offset + np.arange(rows, dtype=np.int32),
    )
