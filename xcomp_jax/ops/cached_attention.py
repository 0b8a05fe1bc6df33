"""Attention of new text rows over a read-only cache and over the text written since.

The two parts are attended to apart and weighed by their log-sum-exp, so that the cache of a video,
which is large and may serve many questions, is never copied together with the text.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.ops.attention import attention

Part = tuple[Array, Array]


def cached_attention(
    query: Array,
    cached: tuple[Array, Array],
    cached_mask: Array | None,
    new: tuple[Array, Array],
    written: Array,
    *,
    implementation: str | None = None,
) -> Array:
    """Causal attention of rows that stand at places `written`, `written` + 1, ... of the new text.

    Not differentiable with every implementation: nothing here is trained.

    Args:
        query: [B, Q, N, H].
        cached: key and value, each [B, S, K, H]; cached_mask: [B, S] bool, None for no padding.
        new: key and value, each [B, M, K, H], those of the rows themselves included.
        written: [B] int32, new tokens before the first row; `written` + Q must not exceed M.
        implementation: one that gives a log-sum-exp, see `attention`; None takes the best that
            accepts the inputs, and `xla` for a single row, which reads the cache once and as it
            lies (NOTES.md).

    Returns:
        [B, Q, N, H]; scores and softmax are float32.

    Raises:
        ValueError: a named implementation that refuses, with the reason.
    """
    if implementation is None and query.shape[1] == 1:
        implementation = "xla"
    old, old_lse = _over_cache(query, cached, cached_mask, implementation)
    text, text_lse = _over_text(query, new, written, implementation)
    share = jax.nn.sigmoid(old_lse - text_lse)[..., None]
    return (share * old + (1 - share) * text).astype(query.dtype)


def _over_cache(
    query: Array, cached: tuple[Array, Array], mask: Array | None, implementation: str | None
) -> Part:
    """All rows see the same keys, so the heads of a group are just more rows: every key is fetched
    once for all of them."""
    batch, rows, heads, size = query.shape
    kv_heads = cached[0].shape[2]
    group = heads // kv_heads
    grouped = jnp.swapaxes(query.reshape(batch, rows, kv_heads, group, size), 2, 3)
    out, lse = attention(
        grouped.reshape(batch, rows * group, kv_heads, size),
        *cached,
        causal=False,
        key_mask=mask,
        implementation=implementation,
        return_lse=True,
    )

    def ungrouped(x: Array) -> Array:
        x = jnp.swapaxes(x.reshape(batch, rows, group, kv_heads, -1), 2, 3)
        return x.reshape(batch, rows, heads, -1)

    return ungrouped(out), ungrouped(lse)[..., 0]


def _over_text(
    query: Array, new: tuple[Array, Array], written: Array, implementation: str | None
) -> Part:
    rows, room = query.shape[1], new[0].shape[1]
    place = jnp.arange(room)
    if rows == 1:
        return attention(
            query,
            *new,
            causal=False,
            key_mask=place <= written[:, None],
            implementation=implementation,
            return_lse=True,
        )
    # A causal mask begins at the same key in every example: keys are moved until the last row's own
    # is the last one.
    spare = room - rows - written
    key, value = (jax.vmap(lambda x, by: jnp.roll(x, by, axis=0))(part, spare) for part in new)
    return attention(
        query,
        key,
        value,
        causal=True,
        key_mask=place >= spare[:, None],
        query_offset=room - rows,
        implementation=implementation,
        return_lse=True,
    )
