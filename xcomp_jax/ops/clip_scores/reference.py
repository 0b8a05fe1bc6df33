"""How much a question's rows look at every clip of a segment: the definition (paper 3.3).

Facts: QC-Comp, scores. A segment is the text before the video, some consecutive clips, and the text
after it, with positions counted from its own start, so that a clip's place in the video cannot
matter. The softmax covers all keys of the segment, also later ones, as in the original.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

from xcomp_jax.ops.rope import rope_tables, rotate

MASKED = -1e30


@dataclasses.dataclass(frozen=True)
class Segments:
    """A window of `num_clips` clips cut into segments of `size` clips, one every `stride`.

    clip_tokens: visual tokens of one clip at this layer. Clips beyond the last whole segment belong
    to none.
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

    prefix: rows before the video; question_start, question_stop: rows of the text after it whose
    attention is the score; length: rows of the text after it that serve as keys.
    """

    prefix: Array
    question_start: Array
    question_stop: Array
    length: Array


def clip_scores(
    query: Array,
    prefix_key: Array,
    visual_key: Array,
    text_key: Array,
    *,
    segments: Segments,
    rows: TextRows,
    rope_theta: float,
) -> Array:
    """Mean attention of the question's rows to each clip, segment by segment.

    Queries and keys come before rotation.

    Args:
        query: [B, R, N, H] rows of the text after the video.
        prefix_key: [B, P, K, H]; text_key: [B, R, K, H]; both padded on the right.
        visual_key: [B, V, K, H] with V >= num_clips * clip_tokens; later ones are not looked at.

    Returns:
        [B, segments.count, segments.size] float32: the mean over heads, question rows and the
        clip's tokens. NaN where there is no question row, as in the original.
    """
    batch, num_rows, heads, size = query.shape
    kv_heads, num_prefix = prefix_key.shape[2], prefix_key.shape[1]
    tokens = segments.size * segments.clip_tokens

    def table(first: Array | int, count: int) -> tuple[Array, Array]:
        positions = jnp.broadcast_to(first, (batch,))[:, None] + jnp.arange(count)
        return rope_tables(positions, size, rope_theta, query.dtype)

    text_table = table(rows.prefix + tokens, num_rows)
    turned = rotate(query, *text_table) * size**-0.5
    grouped = turned.reshape(batch, num_rows, kv_heads, heads // kv_heads, size)
    before = rotate(prefix_key, *table(0, num_prefix))
    after = rotate(text_key, *text_table)
    inside_table = table(rows.prefix, tokens)
    seen = jnp.concatenate(
        [
            jnp.arange(num_prefix) < rows.prefix[:, None],
            jnp.ones((batch, tokens), bool),
            jnp.arange(num_rows) < rows.length[:, None],
        ],
        axis=1,
    )
    row = jnp.arange(num_rows)
    asked = (row >= rows.question_start[:, None]) & (row < rows.question_stop[:, None])

    def one_segment(index: Array) -> Array:
        first = index * (segments.stride * segments.clip_tokens)
        inside = rotate(lax.dynamic_slice_in_dim(visual_key, first, tokens, 1), *inside_table)
        keys = jnp.concatenate([before, inside, after], axis=1)
        scores = jnp.einsum("brkgh,bskh->bkgrs", grouped, keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(jnp.where(seen[:, None, None, None], scores, MASKED), axis=-1)
        clips = weights[..., num_prefix : num_prefix + tokens].reshape(
            *weights.shape[:-1], segments.size, segments.clip_tokens
        )
        per_row = jnp.mean(clips, axis=(1, 2, 5))  # B R clips
        total = jnp.sum(jnp.where(asked[..., None], per_row, 0.0), axis=1)
        return total / jnp.sum(asked, axis=1)[:, None]

    return jnp.moveaxis(lax.map(one_segment, jnp.arange(segments.count)), 0, 1)
