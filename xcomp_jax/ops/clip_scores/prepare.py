"""What the kernels get: everything that is the same for all segments, turned and masked once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.ops.block_sizes import shape_key
from xcomp_jax.ops.clip_scores.reference import Segments, TextRows
from xcomp_jax.ops.rope import rope_tables, rotate


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


def scores_by(
    sums: Callable[..., Array],
    query: Array,
    prefix_key: Array,
    visual_key: Array,
    text_key: Array,
    *,
    segments: Segments,
    rows: TextRows,
    rope_theta: float,
    **options: Any,
) -> Array:
    """`reference.clip_scores` by the kernels of a device.

    Args:
        sums: of `pallas_tpu` or `pallas_gpu`; `options` are its own.

    Returns:
        [B, segments, clips] float32. NaN where no row asks, as in the original.
    """
    given = prepare(query, prefix_key, text_key, segments, rows, rope_theta)
    total = sums(given, visual_key, segments, **options)
    count = jnp.sum(given.asked, axis=1)[:, None, None] * (query.shape[2] * segments.clip_tokens)
    return total / count


def table_key(query: Any, segments: Segments) -> str:
    """Where the table of block sizes keeps this shape."""
    return shape_key(
        "clip_scores", rows=query.shape[1], tokens=segments.clip_tokens, clips=segments.size
    )
