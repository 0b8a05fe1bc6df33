"""Clip scores on GPU in two Pallas (Triton) kernels.

The first sums the softmax over the text keys, one number per row and head. The second, one program
per block of rows, segment and head, scores the segment's keys and sums per clip against a running
maximum; the first kernel's number is added to the denominator. XLA rotates the keys of all segments
before, once for all heads of a group and all blocks of rows: a window of the 2B model takes 9 MB.
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
from jaxtyping import Float

from xcomp_jax.ops.block_sizes import tuned
from xcomp_jax.ops.choice import wrong_platform
from xcomp_jax.ops.clip_scores.prepare import Prepared, table_key
from xcomp_jax.ops.clip_scores.reference import MASKED, Segments
from xcomp_jax.ops.padding import pad_rows
from xcomp_jax.ops.rope import rotate
from xcomp_jax.ops.target import Target

LOG2_E = math.log2(math.e)
SMALLEST = 16  # side of a Triton product


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
    """Returns why this implementation does not support the inputs, or None."""
    if query.dtype not in (jnp.bfloat16, jnp.float16, jnp.float32):
        return f"dtype {query.dtype}; it supports bfloat16, float16 and float32"
    if query.shape[3] not in (32, 64, 128):
        return f"head size {query.shape[3]} is not 32, 64 or 128"
    if segments.size > 128:
        return f"{segments.size} clips in a segment; it supports up to 128"
    return wrong_platform("gpu", target.platform)


def default_blocks(query: Any, segments: Segments, target: Target) -> BlockSizes:
    """Returns measured block sizes for the shape, or safe ones."""
    return tuned(BlockSizes(), target.device_kind, table_key(query, segments))


def _power_of_two(n: int) -> int:
    return max(SMALLEST, 1 << (n - 1).bit_length())


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Padded sizes of one call."""

    blocks: BlockSizes
    segments: Segments
    batch: int
    rows: int
    heads: int
    kv_heads: int
    size: int
    interpret: bool

    @property
    def row_blocks(self) -> int:
        return -(-self.rows // self.blocks.rows)

    @property
    def padded_rows(self) -> int:
        return self.row_blocks * self.blocks.rows

    @property
    def padded_tokens(self) -> int:
        """Tokens of a segment in whole blocks."""
        tokens = self.segments.size * self.segments.clip_tokens
        return -(-tokens // self.blocks.keys) * self.blocks.keys

    @property
    def columns(self) -> int:
        return _power_of_two(self.segments.size)

    def call(self, kernel: Any, name: str, **arguments: Any) -> Any:
        params = plgpu.CompilerParams(num_warps=self.blocks.warps, num_stages=self.blocks.stages)
        return pl.pallas_call(
            kernel, name=name, compiler_params=params, interpret=self.interpret, **arguments
        )


def sums(
    prepared: Prepared,
    visual_key: Float[Array, "B V K H"],
    segments: Segments,
    *,
    target: Target,
    blocks: BlockSizes | None = None,
    interpret: bool = False,
) -> Float[Array, "B {segments.count} {segments.size}"]:
    """Computes sums of weights over heads, question rows and each clip's tokens."""
    batch, rows, heads, size = prepared.query.shape
    blocks = blocks or default_blocks(prepared.query, segments, target)
    blocks = dataclasses.replace(blocks, rows=min(blocks.rows, _power_of_two(rows)))
    grid = _Grid(blocks, segments, batch, rows, heads, visual_key.shape[2], size, interpret)
    query = pad_rows(prepared.query, grid.padded_rows)
    text_lse = _text_lse(grid, query, prepared)
    out = _segment_sums(grid, query, text_lse, prepared, visual_key)
    return jnp.sum(out, axis=(1, 2))[..., : segments.size]


def _text_lse(grid: _Grid, query: Array, prepared: Prepared) -> Array:
    """Computes the log-sum-exp [B, N, Q] of every row over the text keys, to base two."""
    block, group = grid.blocks.rows, grid.heads // grid.kv_heads
    texts = -(-prepared.text_key.shape[1] // grid.blocks.keys) * grid.blocks.keys
    spec = pl.BlockSpec
    return grid.call(
        functools.partial(_text_kernel, block=grid.blocks.keys),
        "clip_scores_text",
        grid=(grid.row_blocks, grid.heads, grid.batch),
        in_specs=[
            spec((None, block, None, grid.size), lambda r, n, b: (b, r, n, 0)),
            spec((None, texts, None, grid.size), lambda r, n, b: (b, 0, lax.div(n, group), 0)),
            spec((None, texts), lambda r, n, b: (b, 0)),
        ],
        out_specs=spec((None, None, block), lambda r, n, b: (b, n, r)),
        out_shape=jax.ShapeDtypeStruct((grid.batch, grid.heads, grid.padded_rows), jnp.float32),
    )(
        query,
        pad_rows(prepared.text_key, texts),
        pad_rows(prepared.text_mask.astype(jnp.int8), texts),
    )


def _rotated_segments(
    grid: _Grid, prepared: Prepared, visual_key: Array
) -> Float[Array, "B segments padded K H"]:
    """Cuts the keys into segments and rotates each from the segment's first position on."""
    segments, tokens = grid.segments, grid.segments.size * grid.segments.clip_tokens
    first = segments.stride * segments.clip_tokens * jnp.arange(segments.count)
    keys = visual_key[:, first[:, None] + jnp.arange(tokens)[None, :]].astype(jnp.float32)
    merged = keys.reshape(grid.batch, -1, *keys.shape[3:])
    tables = (jnp.tile(table, (1, segments.count, 1)) for table in (prepared.cos, prepared.sin))
    rotated = rotate(merged, *tables).astype(visual_key.dtype).reshape(keys.shape)
    return jnp.pad(rotated, ((0, 0), (0, 0), (0, grid.padded_tokens - tokens), (0, 0), (0, 0)))


def _segment_sums(
    grid: _Grid, query: Array, text_lse: Array, prepared: Prepared, visual_key: Array
) -> Array:
    """Computes sums per clip, [B, N, blocks of rows, segments, columns]."""
    segments, block, size = grid.segments, grid.blocks.rows, grid.size
    group, tokens = grid.heads // grid.kv_heads, grid.padded_tokens
    spec = pl.BlockSpec

    def example_and_head(i: Array) -> tuple[Array, Array]:
        """Decodes the third grid index."""
        return lax.div(i, grid.heads), lax.rem(i, grid.heads)

    def query_place(r: Array, s: Array, i: Array) -> tuple[Any, ...]:
        example, head = example_and_head(i)
        return example, r, head, 0

    def key_place(r: Array, s: Array, i: Array) -> tuple[Any, ...]:
        example, head = example_and_head(i)
        return example, s, 0, lax.div(head, group), 0

    return grid.call(
        functools.partial(
            _segment_kernel, segments=segments, block=grid.blocks.keys, columns=grid.columns
        ),
        "clip_scores",
        grid=(grid.row_blocks, segments.count, grid.batch * grid.heads),
        in_specs=[
            spec((None, block, None, size), query_place),
            spec((None, block), lambda r, s, i: (example_and_head(i)[0], r)),
            spec((None, None, block), lambda r, s, i: (*example_and_head(i), r)),
            spec((None, None, tokens, None, size), key_place),
        ],
        out_specs=spec(
            (None, None, None, None, grid.columns),
            lambda r, s, i: (*example_and_head(i), r, s, 0),
        ),
        out_shape=jax.ShapeDtypeStruct(
            (grid.batch, grid.heads, grid.row_blocks, segments.count, grid.columns), jnp.float32
        ),
    )(
        query,
        pad_rows(prepared.scored.astype(jnp.float32), grid.padded_rows),
        text_lse,
        _rotated_segments(grid, prepared, visual_key),
    )


def _text_kernel(query_ref: Any, key_ref: Any, mask_ref: Any, lse_ref: Any, *, block: int) -> None:
    """Computes the log-sum-exp to base two of a block of rows over the text keys."""
    query = query_ref[...]
    scale = query.shape[1] ** -0.5 * LOG2_E

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        most, total = carry
        here = pl.ds(j * block, block)
        scores = plgpu.dot(query, key_ref[here, :].T).astype(jnp.float32) * scale
        scores = jnp.where((mask_ref[here].astype(jnp.int32) != 0)[None, :], scores, MASKED)
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
    query_ref: Any,
    scored_ref: Any,
    text_lse_ref: Any,
    key_ref: Any,
    out_ref: Any,
    *,
    segments: Segments,
    block: int,
    columns: int,
) -> None:
    """Sums the weights of a block of rows per clip of one segment."""
    query, text_lse = query_ref[...], text_lse_ref[...]
    dtype, (rows, size) = query.dtype, query.shape
    scale = size**-0.5 * LOG2_E
    tokens = segments.size * segments.clip_tokens

    def step(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        most, sums = carry
        scores = plgpu.dot(query, key_ref[pl.ds(j * block, block), :].T)
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
    out_ref[...] = jnp.sum(sums * (scored_ref[...] / total)[:, None], axis=0)
