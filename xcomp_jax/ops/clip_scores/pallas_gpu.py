"""Clip scores on GPU in two Pallas (Triton) kernels.

The first sums the softmax over the text keys, one number per row and head. The second, one program
per block of rows, segment and head, turns the segment's keys to their places, scores them and sums
per clip against a running maximum; the first kernel's number joins in the denominator. Triton
cannot cut a tile in half, so both halves of a head are loaded apart and multiplied apart.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from xcomp_jax.ops.block_sizes import tuned
from xcomp_jax.ops.choice import wrong_platform
from xcomp_jax.ops.clip_scores.prepare import Prepared, table_key
from xcomp_jax.ops.clip_scores.reference import MASKED, Segments
from xcomp_jax.ops.padding import pad_rows
from xcomp_jax.ops.target import Target

LOG2_E = math.log2(math.e)
SMALLEST = 16  # of a side of a Triton product


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """Rows of the question and keys in one block, powers of two from 16; warps, pipeline stages."""

    rows: int = 128
    keys: int = 64
    warps: int = 8
    stages: int = 2

    def __post_init__(self) -> None:
        for name in ("rows", "keys"):
            size = getattr(self, name)
            if size < SMALLEST or size & (size - 1):
                raise ValueError(f"{name}={size} must be a power of two and at least {SMALLEST}")


def refusal(query: Any, segments: Segments, target: Target) -> str | None:
    """Why this implementation does not take the inputs, or None."""
    if query.dtype not in (jnp.bfloat16, jnp.float16, jnp.float32):
        return f"dtype {query.dtype}; it takes bfloat16, float16 and float32"
    if query.shape[3] not in (32, 64, 128):
        return f"head size {query.shape[3]} is not 32, 64 or 128"
    if segments.size > 128:
        return f"{segments.size} clips in a segment; it takes up to 128"
    return wrong_platform("gpu", target.platform)


def default_blocks(query: Any, segments: Segments, target: Target) -> BlockSizes:
    """Measured block sizes for the shape, or safe ones."""
    return tuned(BlockSizes(), target.device_kind, table_key(query, segments))


def _power_of_two(n: int) -> int:
    return max(SMALLEST, 1 << (n - 1).bit_length())


def sums(
    given: Prepared,
    visual_key: Array,
    segments: Segments,
    *,
    target: Target,
    blocks: BlockSizes | None = None,
    interpret: bool = False,
) -> Array:
    """[B, segments, clips] sums of weights over heads, asking rows and the clip's tokens."""
    batch, num_rows, heads, size = given.query.shape
    blocks = blocks or default_blocks(given.query, segments, target)
    blocks = dataclasses.replace(blocks, rows=min(blocks.rows, _power_of_two(num_rows)))
    group, half = heads // visual_key.shape[2], size // 2
    row_blocks = -(-num_rows // blocks.rows)
    padded_rows = row_blocks * blocks.rows
    texts = -(-given.text_key.shape[1] // blocks.keys) * blocks.keys
    tokens = segments.size * segments.clip_tokens
    padded_tokens = -(-tokens // blocks.keys) * blocks.keys
    # The last block of the last segment may reach behind the keys.
    last = (segments.count - 1) * segments.stride * segments.clip_tokens + padded_tokens
    keys = max(visual_key.shape[1], last)
    columns = _power_of_two(segments.size)

    def call(kernel: Any, name: str, **arguments: Any) -> Any:
        return pl.pallas_call(
            kernel,
            name=name,
            compiler_params=plgpu.CompilerParams(num_warps=blocks.warps, num_stages=blocks.stages),
            interpret=interpret,
            **arguments,
        )

    query = pad_rows(given.query, padded_rows)
    spec = pl.BlockSpec
    text_lse = call(
        functools.partial(_text_kernel, block=blocks.keys),
        "clip_scores_text",
        grid=(row_blocks, heads, batch),
        in_specs=[
            spec((None, blocks.rows, None, size), lambda r, n, b: (b, r, n, 0)),
            spec((None, texts, None, size), lambda r, n, b: (b, 0, lax.div(n, group), 0)),
            spec((None, texts), lambda r, n, b: (b, 0)),
        ],
        out_specs=spec((None, None, blocks.rows), lambda r, n, b: (b, n, r)),
        out_shape=jax.ShapeDtypeStruct((batch, heads, padded_rows), jnp.float32),
    )(query, pad_rows(given.text_key, texts), pad_rows(given.text_seen.astype(jnp.int8), texts))

    def place(i: Array) -> tuple[Array, Array, Array]:
        """Example, head and key head of the third grid index."""
        head = lax.rem(i, heads)
        return lax.div(i, heads), head, lax.div(head, group)

    def query_half(side: int) -> pl.BlockSpec:
        return spec((None, blocks.rows, None, half), lambda r, s, i: (*_row(i, r), side))

    def _row(i: Array, r: Array) -> tuple[Array, Array, Array]:
        example, head, _ = place(i)
        return example, r, head

    def key_half(side: int) -> pl.BlockSpec:
        return spec((None, keys, None, half), lambda r, s, i: (place(i)[0], 0, place(i)[2], side))

    table = spec((None, padded_tokens, half), lambda r, s, i: (place(i)[0], 0, 0))
    out = call(
        functools.partial(_segment_kernel, segments=segments, block=blocks.keys, columns=columns),
        "clip_scores",
        grid=(row_blocks, segments.count, batch * heads),
        in_specs=[
            query_half(0),
            query_half(1),
            spec((None, blocks.rows), lambda r, s, i: (place(i)[0], r)),
            spec((None, None, blocks.rows), lambda r, s, i: (*place(i)[:2], r)),
            key_half(0),
            key_half(1),
            table,
            table,
        ],
        out_specs=spec((None, None, None, None, columns), lambda r, s, i: (*place(i)[:2], r, s, 0)),
        out_shape=jax.ShapeDtypeStruct(
            (batch, heads, row_blocks, segments.count, columns), jnp.float32
        ),
    )(
        query,
        query,
        pad_rows(given.asked.astype(jnp.float32), padded_rows),
        text_lse,
        *(pad_rows(visual_key, keys),) * 2,
        *(pad_rows(x[..., :half], padded_tokens) for x in (given.cos, given.sin)),
    )
    return jnp.sum(out, axis=(1, 2))[..., : segments.size]


def _text_kernel(query_ref: Any, key_ref: Any, seen_ref: Any, lse_ref: Any, *, block: int) -> None:
    """Log-sum-exp to base two of a block of rows over the text keys."""
    query = query_ref[...]
    scale = query.shape[1] ** -0.5 * LOG2_E

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        most, total = carry
        here = pl.ds(j * block, block)
        scores = plgpu.dot(query, key_ref[here, :].T).astype(jnp.float32) * scale
        scores = jnp.where((seen_ref[here].astype(jnp.int32) != 0)[None, :], scores, MASKED)
        new_most = jnp.maximum(most, jnp.max(scores, axis=1))
        weights = jnp.exp2(scores - new_most[:, None])
        return new_most, total * jnp.exp2(most - new_most) + jnp.sum(weights, axis=1)

    start = (
        jnp.full((query.shape[0],), MASKED, jnp.float32),
        jnp.zeros((query.shape[0],), jnp.float32),
    )
    most, total = lax.fori_loop(0, key_ref.shape[0] // block, step, start)
    lse_ref[...] = most + jnp.log2(total)


def _segment_kernel(
    left_query_ref: Any,
    right_query_ref: Any,
    asked_ref: Any,
    text_lse_ref: Any,
    left_key_ref: Any,
    right_key_ref: Any,
    cos_ref: Any,
    sin_ref: Any,
    out_ref: Any,
    *,
    segments: Segments,
    block: int,
    columns: int,
) -> None:
    left_query, right_query = left_query_ref[...], right_query_ref[...]
    dtype, rows = left_query.dtype, left_query.shape[0]
    scale = (2 * left_query.shape[1]) ** -0.5 * LOG2_E
    text_lse = text_lse_ref[...]
    tokens = segments.size * segments.clip_tokens
    first = pl.program_id(1) * (segments.stride * segments.clip_tokens)

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        most, sums = carry
        inside = pl.ds(j * block, block)
        here = pl.ds(first + j * block, block)
        left = left_key_ref[here, :].astype(jnp.float32)
        right = right_key_ref[here, :].astype(jnp.float32)
        cos, sin = cos_ref[inside, :], sin_ref[inside, :]
        turned_left = (left * cos - right * sin).astype(dtype)
        turned_right = (right * cos + left * sin).astype(dtype)
        scores = plgpu.dot(left_query, turned_left.T) + plgpu.dot(right_query, turned_right.T)
        token = j * block + jnp.arange(block)
        scores = jnp.where((token < tokens)[None, :], scores.astype(jnp.float32) * scale, MASKED)
        new_most = jnp.maximum(most, jnp.max(scores, axis=1))
        weights = jnp.exp2(scores - new_most[:, None])
        # A product with clips as columns sums each clip's tokens, whatever their number.
        clip = lax.div(token, segments.clip_tokens)
        belongs = (clip[:, None] == jnp.arange(columns)[None, :]).astype(dtype)
        per_clip = plgpu.dot(weights.astype(dtype), belongs).astype(jnp.float32)
        return new_most, sums * jnp.exp2(most - new_most)[:, None] + per_clip

    start = (text_lse, jnp.zeros((rows, columns), jnp.float32))
    most, sums = lax.fori_loop(0, -(-tokens // block), step, start)
    total = jnp.exp2(text_lse - most) + jnp.sum(sums, axis=1)
    out_ref[...] = jnp.sum(sums * (asked_ref[...] / total)[:, None], axis=0)
