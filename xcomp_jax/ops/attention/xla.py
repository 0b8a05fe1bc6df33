"""Attention in plain XLA, without a materialised mask and in bounded memory.

Queries are processed in blocks, so that the largest intermediate is [B, N, block, S], never S x S.
Under a causal mask the blocks are grouped, and a group attends only to the keys up to its own end.
Blocks are small: the softmax writes and reads their scores several times, which on a CPU is three
times faster while they stay in its cache (measured by `xcomp_jax.launch.bench.qc_speed`). On a CPU
a block has the rows of a single key head besides: its two products are plain ones, and take a third
of the time of products with a batch of heads (`xcomp bench encoder-cpu`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from xcomp_jax.ops.target import current_target

# Bytes of a block's float32 scores, and its smallest and largest number of rows.
BLOCK_BYTES = 4 * 2**20
BLOCK_ROWS = (32, 512)
# Eight groups compute 56 % of the full S x S products, where a causal mask needs 50 %. Each is
# compiled separately, so that short sequences, which save little, get fewer.
CAUSAL_GROUPS = 8
GROUP_ROWS = 1024
# Finite, so that a fully masked row returns a mean instead of NaN.
MASKED = -1e30


def attention(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    *,
    causal: bool,
    key_mask: Bool[Array, "B S"] | None = None,
    query_offset: int = 0,
    query_block: int | None = None,
) -> tuple[Float[Array, "B Q N H"], Float[Array, "B Q N"]]:
    """Computes the output in the dtype of `query` and the float32 log-sum-exp.

    See `dispatch.attention`; scores and softmax are float32.

    Args:
        query_block: rows computed at a time; by default as many as `BLOCK_BYTES` allow.
    """
    rows, heads, keys = query.shape[1], query.shape[2], key.shape[1]
    # Whether heads are separate must not depend on the batch: results differ in their last bits.
    separate = current_target().platform == "cpu" and heads * rows * keys * 4 > BLOCK_BYTES
    if query_block is None:
        together = heads // key.shape[2] if separate else query.shape[0] * heads
        query_block = min(rows, block_rows(together * keys * 4))
    if rows <= query_block and not separate:
        return _attend(query, key, value, key_mask, query_offset if causal else None)
    attend_in_blocks = _attend_by_heads if separate else _attend_in_blocks
    blocks = -(-rows // query_block)
    groups = min(CAUSAL_GROUPS, max(1, rows // GROUP_ROWS)) if causal else 1
    group_rows = -(-blocks // groups) * query_block
    outputs = []
    for start in range(0, rows, group_rows):
        stop = min(start + group_rows, rows)
        seen = min(keys, query_offset + stop) if causal else keys
        outputs.append(
            attend_in_blocks(
                query[:, start:stop],
                key[:, :seen],
                value[:, :seen],
                None if key_mask is None else key_mask[:, :seen],
                query_offset + start if causal else None,
                query_block,
            )
        )
    out, lse = zip(*outputs, strict=True)
    return jnp.concatenate(out, axis=1), jnp.concatenate(lse, axis=1)


def block_rows(row_bytes: int) -> int:
    """Computes the rows of a block, a power of two, for `row_bytes` bytes of scores per row."""
    least, most = BLOCK_ROWS
    fitting = max(BLOCK_BYTES // row_bytes, 1)
    return min(max(1 << (fitting.bit_length() - 1), least), most)


def _attend_in_blocks(
    query: Array,
    key: Array,
    value: Array,
    key_mask: Array | None,
    offset: int | None,
    query_block: int,
) -> tuple[Array, Array]:
    batch, rows, heads, size = query.shape
    blocks = -(-rows // query_block)
    padded = jnp.pad(query, ((0, 0), (0, blocks * query_block - rows), (0, 0), (0, 0)))
    stacked = jnp.moveaxis(padded.reshape(batch, blocks, query_block, heads, size), 1, 0)

    @jax.checkpoint  # the backward pass would store every block's scores, S x S in total
    def one_block(index: Array, block: Array) -> tuple[Array, Array]:
        first_row = None if offset is None else offset + index * query_block
        return _attend(block, key, value, key_mask, first_row)

    out, lse = jax.lax.map(lambda item: one_block(*item), (jnp.arange(blocks), stacked))
    out = jnp.moveaxis(out, 0, 1).reshape(batch, -1, heads, size)[:, :rows]
    return out, jnp.moveaxis(lse, 0, 1).reshape(batch, -1, heads)[:, :rows]


def _attend_by_heads(
    query: Array,
    key: Array,
    value: Array,
    key_mask: Array | None,
    offset: int | None,
    query_block: int,
) -> tuple[Array, Array]:
    """Attends with the rows of one example, key head and block at a time."""
    batch, rows, heads, size = query.shape
    keys, kv_heads = key.shape[1:3]
    group, blocks = heads // kv_heads, -(-rows // query_block)
    padded = jnp.pad(query, ((0, 0), (0, blocks * query_block - rows), (0, 0), (0, 0)))
    # [B * K, blocks, block * group, H]
    stacked = jnp.moveaxis(padded.reshape(batch, blocks, query_block, kv_heads, group, size), 3, 1)
    stacked = stacked.reshape(batch * kv_heads, blocks, query_block * group, size)
    key, value = (jnp.moveaxis(x, 2, 1).reshape(-1, keys, size) for x in (key, value))
    if key_mask is not None:
        key_mask = jnp.repeat(key_mask, kv_heads, axis=0)

    @jax.checkpoint  # the backward pass would store every block's scores, S x S in total
    def one_block(index: Array, block: Array, key: Array, value: Array, mask: Any) -> Any:
        scores = jnp.matmul(block * size**-0.5, key.T, preferred_element_type=jnp.float32)
        if offset is not None:
            row = offset + index * query_block + jnp.arange(query_block * group) // group
            scores = jnp.where(row[:, None] >= jnp.arange(keys)[None, :], scores, MASKED)
        if mask is not None:
            scores = jnp.where(mask[None, :], scores, MASKED)
        most = jax.lax.stop_gradient(jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.exp(scores - most)
        total = jnp.sum(weights, axis=1, keepdims=True)
        out = jnp.matmul(weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        # The division of the outputs, H per row, is cheaper than that of the weights.
        return (out / total).astype(value.dtype), (most + jnp.log(total))[:, 0]

    def one_head(head: tuple[Any, ...]) -> tuple[Array, Array]:
        blocks_of_head, *others = head
        return jax.lax.map(
            lambda item: one_block(*item, *others), (jnp.arange(blocks), blocks_of_head)
        )

    out, lse = jax.lax.map(one_head, (stacked, key, value, key_mask))

    def unstacked(x: Array) -> Array:
        x = x.reshape(batch, kv_heads, blocks * query_block, group, *x.shape[3:])
        return jnp.moveaxis(x, 1, 2)[:, :rows].reshape(batch, rows, heads, *x.shape[4:])

    return unstacked(out), unstacked(lse)


def _attend(
    query: Array,
    key: Array,
    value: Array,
    key_mask: Array | None,
    first_row: Array | int | None,
) -> tuple[Array, Array]:
    """Attends with all rows at once; `first_row`: key at the first query, None if not causal."""
    batch, rows, heads, size = query.shape
    kv_heads = key.shape[2]
    grouped = query.reshape(batch, rows, kv_heads, heads // kv_heads, size)
    scores = jnp.einsum(
        "bqkgh,bskh->bkgqs", grouped * size**-0.5, key, preferred_element_type=jnp.float32
    )
    if first_row is not None:
        visible = first_row + jnp.arange(rows)[:, None] >= jnp.arange(key.shape[1])[None, :]
        scores = jnp.where(visible[None, None, None], scores, MASKED)
    if key_mask is not None:
        scores = jnp.where(key_mask[:, None, None, None, :], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1)
    out = jnp.einsum("bkgqs,bskh->bqkgh", weights.astype(value.dtype), value)
    lse = jnp.moveaxis(jax.nn.logsumexp(scores, axis=-1), 3, 1)  # B Q K group
    return out.reshape(batch, rows, heads, size), lse.reshape(batch, rows, heads)
