"""Definition of the attention of a question's rows to every clip of a segment (paper 3.3).

A segment is the text before the video, some consecutive clips, and the text after it, with
positions counted from its own start, so that scores do not depend on a clip's place in the video.
The softmax covers all keys of the segment, including later ones, as in the original
(docs/reference_behaviour.md#qc-comp).
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from xcomp_jax.ops.rope import RopeBase, rope_tables, rotate

MASKED = -1e30


@dataclasses.dataclass(frozen=True)
class Segments:
    """A window of `num_clips` clips cut into segments of `size` clips, one every `stride`.

    clip_tokens: visual tokens of one clip in this layer. Clips beyond the last whole segment belong
    to no segment.
    """

    num_clips: int
    clip_tokens: int
    size: int
    stride: int

    @property
    def count(self) -> int:
        """Number of segments."""
        return (self.num_clips - self.size) // self.stride + 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TextRows:
    """Real rows of the padded text parts, int32 [B] each.

    prefix: rows before the video; question_start, question_stop: range of rows of the text after
    the video whose attention is the score; length: rows of that text that serve as keys.
    """

    prefix: Array
    question_start: Array
    question_stop: Array
    length: Array


def clip_scores(
    query: Float[Array, "B Q N H"],
    prefix_key: Float[Array, "B prefix K H"],
    visual_key: Float[Array, "B V K H"],
    text_key: Float[Array, "B Q K H"],
    *,
    segments: Segments,
    rows: TextRows,
    rope_theta: RopeBase,
) -> Float[Array, "B {segments.count} {segments.size}"]:
    """Computes the mean attention of the question's rows to each clip, segment by segment.

    Queries and keys come before rotation.

    Args:
        query: rows of the text after the video.
        prefix_key, text_key: both padded on the right.
        visual_key: with V >= num_clips * clip_tokens; later ones are ignored.

    Returns:
        float32 mean over heads, question rows and the clip's tokens. NaN where there is no question
        row, as in the original.
    """
    num_rows, num_prefix = query.shape[1], prefix_key.shape[1]
    tokens = segments.size * segments.clip_tokens
    table = functools.partial(
        _rope_table, head_dim=query.shape[3], theta=rope_theta, dtype=query.dtype
    )
    text_table = table(rows.prefix + tokens, num_rows)
    inside_table = table(rows.prefix, tokens)
    before = rotate(prefix_key, *table(jnp.zeros_like(rows.prefix), num_prefix))
    after = rotate(text_key, *text_table)
    rotated_query = rotate(query, *text_table)
    visible = _visible_keys(rows, num_prefix, tokens, num_rows)
    row = jnp.arange(num_rows)[None, :]
    scored = (row >= rows.question_start[:, None]) & (row < rows.question_stop[:, None])

    def segment_scores(index: Array) -> Array:
        first = index * (segments.stride * segments.clip_tokens)
        inside = rotate(lax.dynamic_slice_in_dim(visual_key, first, tokens, 1), *inside_table)
        keys = jnp.concatenate([before, inside, after], axis=1)
        weights = _softmax_weights(rotated_query, keys, visible)
        clips = weights[..., num_prefix : num_prefix + tokens].reshape(
            *weights.shape[:-1], segments.size, segments.clip_tokens
        )
        per_row = jnp.mean(clips, axis=(1, 2, 5))  # B Q clips
        total = jnp.sum(jnp.where(scored[..., None], per_row, 0.0), axis=1)
        return total / jnp.sum(scored, axis=1)[:, None]

    return jnp.moveaxis(lax.map(segment_scores, jnp.arange(segments.count)), 0, 1)


def _rope_table(
    first: Array, count: int, *, head_dim: int, theta: RopeBase, dtype: jnp.dtype
) -> tuple[Array, Array]:
    """Computes rotation tables of `count` positions from `first` [B] on."""
    positions = first[:, None] + jnp.arange(count)[None, :]
    return rope_tables(positions, head_dim, theta, dtype)


def _visible_keys(rows: TextRows, num_prefix: int, tokens: int, num_rows: int) -> Array:
    """Marks the real keys of a segment, [B, prefix + tokens + Q]."""
    batch = rows.prefix.shape[0]
    return jnp.concatenate(
        [
            jnp.arange(num_prefix)[None, :] < rows.prefix[:, None],
            jnp.ones((batch, tokens), bool),
            jnp.arange(num_rows)[None, :] < rows.length[:, None],
        ],
        axis=1,
    )


def _softmax_weights(query: Array, key: Array, visible: Array) -> Array:
    """Computes float32 attention weights [B, K, N / K, Q, S] without a causal mask."""
    batch, num_rows, heads, size = query.shape
    kv_heads = key.shape[2]
    grouped = (query * size**-0.5).reshape(batch, num_rows, kv_heads, heads // kv_heads, size)
    scores = jnp.einsum("bqkgh,bskh->bkgqs", grouped, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(jnp.where(visible[:, None, None, None], scores, MASKED), axis=-1)
