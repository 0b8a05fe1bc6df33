"""Attention of new text rows over a read-only cache and over the text after it.

Attention is computed for the two parts separately and merged by their log-sum-exp, so that the
cache of a video, which is large and serves many questions, is never copied together with the text.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from xcomp_jax.ops.attention import attention

KeyValue = tuple[Float[Array, "B S K H"], Float[Array, "B S K H"]]
TextKeyValue = tuple[Float[Array, "B M K H"], Float[Array, "B M K H"]]
# Output and log-sum-exp of attention to one part of the keys.
PartialOutput = tuple[Array, Array]


def cached_attention(
    query: Float[Array, "B Q N H"],
    cached: KeyValue,
    cached_mask: Bool[Array, "B S"] | None,
    text: TextKeyValue,
    written: Int[Array, " B"],
    *,
    implementation: str | None = None,
) -> Float[Array, "B Q N H"]:
    """Computes causal attention of rows at places `written`, `written` + 1, ... of the text.

    Not differentiable with every implementation: nothing here is trained.

    Args:
        cached: key and value; cached_mask: True on real tokens, None without padding.
        text: key and value, those of the rows themselves included.
        written: tokens of the text before the first row; `written` + Q must not exceed M.
        implementation: one that returns a log-sum-exp, see `attention`; None selects the best that
            accepts the inputs, and `xla` for a single row, which reads the cache once and without
            a copy (docs/kernels.md).

    Returns:
        The output in the dtype of `query`; scores and softmax are float32.

    Raises:
        ValueError: a named implementation does not support the inputs, with the reason.
    """
    if implementation is None and query.shape[1] == 1:
        implementation = "xla"
    old, old_lse = _over_cache(query, cached, cached_mask, implementation)
    new, text_lse = _over_text(query, text, written, implementation)
    weight = jax.nn.sigmoid(old_lse - text_lse)[..., None]
    return (weight * old + (1 - weight) * new).astype(query.dtype)


def _over_cache(
    query: Array, cached: tuple[Array, Array], mask: Array | None, implementation: str | None
) -> PartialOutput:
    """Attends to the cache.

    All rows see the same keys, so the heads of a group become more rows, and every key is fetched
    once for all of them.
    """
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
    query: Array, text: tuple[Array, Array], written: Array, implementation: str | None
) -> PartialOutput:
    """Attends to the text, causally among the rows."""
    rows, room = query.shape[1], text[0].shape[1]
    place = jnp.arange(room)
    if rows == 1:
        return attention(
            query,
            *text,
            causal=False,
            key_mask=place[None, :] <= written[:, None],
            implementation=implementation,
            return_lse=True,
        )
    # A causal mask begins at the same key in every example: keys are shifted until the last row's
    # own is the last one.
    spare = room - rows - written
    key, value = (jax.vmap(lambda x, by: jnp.roll(x, by, axis=0))(part, spare) for part in text)
    return attention(
        query,
        key,
        value,
        causal=True,
        key_mask=place[None, :] >= spare[:, None],
        query_offset=room - rows,
        implementation=implementation,
        return_lse=True,
    )
