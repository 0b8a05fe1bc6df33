"""What the kernels get: everything that is the same for all segments, turned and masked once."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.models.rope import rope_tables, rotate
from xcomp_jax.ops.clip_scores.reference import Segments, TextRows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prepared:
    """query: [B, R, N, H] rotated; asked: [B, R] bool, rows that count.

    text_key: [B, P + R, K, H] rotated, text before and after the segment; text_seen: [B, P + R].
    cos, sin: [B, size * clip_tokens, H] float32, positions inside a segment, the same for all.
    """

    query: Array
    asked: Array
    text_key: Array
    text_seen: Array
    cos: Array
    sin: Array


def prepare(
    query: Array,
    prefix_key: Array,
    text_key: Array,
    segments: Segments,
    rows: TextRows,
    rope_theta: float,
) -> Prepared:
    """Arguments as in `reference.clip_scores`."""
    num_rows, size = query.shape[1], query.shape[3]
    num_prefix = prefix_key.shape[1]
    tokens = segments.size * segments.clip_tokens
    row = jnp.arange(num_rows)

    def tables(first: Array, count: int, dtype: jnp.dtype) -> tuple[Array, Array]:
        return rope_tables(first[:, None] + jnp.arange(count), size, rope_theta, dtype)

    after = tables(rows.prefix + tokens, num_rows, query.dtype)
    before = tables(jnp.zeros_like(rows.prefix), num_prefix, query.dtype)
    cos, sin = tables(rows.prefix, tokens, jnp.dtype(jnp.float32))
    return Prepared(
        query=rotate(query, *after),
        asked=(row >= rows.question_start[:, None]) & (row < rows.question_stop[:, None]),
        text_key=jnp.concatenate([rotate(prefix_key, *before), rotate(text_key, *after)], axis=1),
        text_seen=jnp.concatenate(
            [jnp.arange(num_prefix) < rows.prefix[:, None], row < rows.length[:, None]], axis=1
        ),
        cos=cos,
        sin=sin,
    )


def mean_scores(sums: Array, asked: Array, segments: Segments, heads: int) -> Array:
    """Scores from sums of weights over heads, rows and tokens, [B, segments, clips].

    NaN where no row asks, as in the original.
    """
    count = jnp.sum(asked, axis=1)[:, None, None] * (heads * segments.clip_tokens)
    return sums / count
