"""Attention of new text rows over a read-only cache and over the text written since.

The two parts share one softmax and are never concatenated, so that the cache of a video, which is
large and may serve many questions, is not copied for every row that is added.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.ops.attention import MASKED

ROW_BLOCK = 64
"""Rows at a time: 64 rows of 12 heads over 64k keys are 200 MB of scores."""


def cached_attention(
    query: Array,
    cached: tuple[Array, Array],
    cached_mask: Array,
    new: tuple[Array, Array],
    written: Array,
) -> Array:
    """Causal attention of rows that stand at places `written`, `written` + 1, ... of the new text.

    Args:
        query: [B, Q, N, H].
        cached: key and value, each [B, S, K, H]; cached_mask: [B, S] bool.
        new: key and value, each [B, M, K, H], those of the rows themselves included.
        written: [B] int32, new tokens before the first row.

    Returns:
        [B, Q, N, H]; scores and softmax are float32.
    """
    rows = query.shape[1]
    if rows <= ROW_BLOCK:
        return _attend(query, cached, cached_mask, new, written)
    blocks = -(-rows // ROW_BLOCK)
    padded = jnp.pad(query, ((0, 0), (0, blocks * ROW_BLOCK - rows), (0, 0), (0, 0)))
    stacked = jnp.moveaxis(
        padded.reshape(query.shape[0], blocks, ROW_BLOCK, *query.shape[2:]), 1, 0
    )

    def one_block(item: tuple[Array, Array]) -> Array:
        index, block = item
        return _attend(block, cached, cached_mask, new, written + index * ROW_BLOCK)

    out = jax.lax.map(one_block, (jnp.arange(blocks), stacked))
    return jnp.moveaxis(out, 0, 1).reshape(padded.shape)[:, :rows]


def _attend(
    query: Array,
    cached: tuple[Array, Array],
    cached_mask: Array,
    new: tuple[Array, Array],
    written: Array,
) -> Array:
    batch, rows, heads, size = query.shape
    kv_heads = cached[0].shape[2]
    grouped = query.reshape(batch, rows, kv_heads, heads // kv_heads, size) * size**-0.5
    place = written[:, None] + jnp.arange(rows)
    new_mask = jnp.arange(new[0].shape[1]) <= place[..., None]  # B Q M

    def masked_scores(key: Array, mask: Array) -> Array:
        scores = jnp.einsum("bqkgh,bskh->bkgqs", grouped, key, preferred_element_type=jnp.float32)
        return jnp.where(mask[:, None, None], scores, MASKED)

    scores = jnp.concatenate(
        [masked_scores(cached[0], cached_mask[:, None]), masked_scores(new[0], new_mask)], axis=-1
    )
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    split = cached[0].shape[1]
    out = jnp.einsum("bkgqs,bskh->bqkgh", weights[..., :split], cached[1])
    out += jnp.einsum("bkgqs,bskh->bqkgh", weights[..., split:], new[1])
    return out.reshape(batch, rows, heads, size)
