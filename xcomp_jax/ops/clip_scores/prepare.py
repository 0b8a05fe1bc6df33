"""Inputs of the kernels: everything shared by all segments, rotated and masked once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from xcomp_jax.ops.block_sizes import shape_key
from xcomp_jax.ops.clip_scores.reference import Segments, TextRows
from xcomp_jax.ops.rope import RopeBase, rope_tables, rotate


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prepared:
    """query: [B, Q, N, H] rotated; scored: [B, Q] bool, rows of the question.

    text_key: [B, prefix + Q, K, H] rotated, text before and after the segment; text_mask:
    [B, prefix + Q]. cos, sin: [B, size * clip_tokens, H] float32, positions inside any segment.
    """

    query: Array
    scored: Array
    text_key: Array
    text_mask: Array
    cos: Array
    sin: Array


def prepare(
    query: Float[Array, "B Q N H"],
    prefix_key: Float[Array, "B prefix K H"],
    text_key: Float[Array, "B Q K H"],
    segments: Segments,
    rows: TextRows,
    rope_theta: RopeBase,
) -> Prepared:
    """Rotates and masks the arguments of `reference.clip_scores`."""
    num_rows, size = query.shape[1], query.shape[3]
    num_prefix = prefix_key.shape[1]
    tokens = segments.size * segments.clip_tokens
    row = jnp.arange(num_rows)[None, :]

    def tables(first: Array, count: int, dtype: jnp.dtype) -> tuple[Array, Array]:
        return rope_tables(first[:, None] + jnp.arange(count)[None, :], size, rope_theta, dtype)

    after = tables(rows.prefix + tokens, num_rows, query.dtype)
    before = tables(jnp.zeros_like(rows.prefix), num_prefix, query.dtype)
    cos, sin = tables(rows.prefix, tokens, jnp.dtype(jnp.float32))
    return Prepared(
        query=rotate(query, *after),
        scored=(row >= rows.question_start[:, None]) & (row < rows.question_stop[:, None]),
        text_key=jnp.concatenate([rotate(prefix_key, *before), rotate(text_key, *after)], axis=1),
        text_mask=jnp.concatenate(
            [jnp.arange(num_prefix)[None, :] < rows.prefix[:, None], row < rows.length[:, None]],
            axis=1,
        ),
        cos=cos,
        sin=sin,
    )


def scores_by(
    sums: Callable[..., Array],
    query: Float[Array, "B Q N H"],
    prefix_key: Float[Array, "B prefix K H"],
    visual_key: Float[Array, "B V K H"],
    text_key: Float[Array, "B Q K H"],
    *,
    segments: Segments,
    rows: TextRows,
    rope_theta: RopeBase,
    **options: Any,
) -> Float[Array, "B {segments.count} {segments.size}"]:
    """Computes `reference.clip_scores` by the kernels of a device.

    Args:
        sums: function of `pallas_tpu` or `pallas_gpu`, called with `options`.

    Returns:
        float32; NaN where there is no question row, as in the original.
    """
    prepared = prepare(query, prefix_key, text_key, segments, rows, rope_theta)
    total = sums(prepared, visual_key, segments, **options)
    count = jnp.sum(prepared.scored, axis=1)[:, None, None]
    return total / (count * (query.shape[2] * segments.clip_tokens))


def table_key(query: Any, segments: Segments) -> str:
    """Returns the key of this shape in the table of block sizes."""
    return shape_key(
        "clip_scores", rows=query.shape[1], tokens=segments.clip_tokens, clips=segments.size
    )
