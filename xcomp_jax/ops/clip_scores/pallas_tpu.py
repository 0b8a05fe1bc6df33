"""Clip scores on TPU in one fused Pallas kernel.

For a block of question rows, the softmax over the text keys is summed once and kept; then the
segments pass by, a few clips at a time: keys are turned to their place in the segment, scored, and
summed per clip against a running maximum. The sums of the clips are also the denominator's share of
the segment, so nothing else is kept of a row. All query heads of one key head share a product.
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
from jax.experimental.pallas import tpu as pltpu

from xcomp_jax.ops.block_sizes import tuned
from xcomp_jax.ops.choice import wrong_platform
from xcomp_jax.ops.clip_scores.prepare import Prepared, table_key
from xcomp_jax.ops.clip_scores.reference import MASKED, Segments
from xcomp_jax.ops.padding import pad_rows
from xcomp_jax.ops.target import Target

LANES = 128
SUBLANES = 8
NT = (((1,), (1,)), ((), ()))  # a product with the second matrix transposed


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """rows: of the question in one block; keys: largest number multiplied at a time."""

    rows: int = 128
    keys: int = 512

    def __post_init__(self) -> None:
        if self.rows < 16 or self.rows % 16:
            raise ValueError(f"rows={self.rows} must be a positive multiple of 16")
        if self.keys < LANES or self.keys % LANES:
            raise ValueError(f"keys={self.keys} must be a positive multiple of {LANES}")


def clips_at_once(segments: Segments, largest: int) -> int:
    """Clips in one block of keys: they tile every segment, and hold at most `largest` tokens."""
    shared = math.gcd(segments.size, segments.stride) if segments.count > 1 else segments.size
    fitting = [n for n in range(1, shared + 1) if shared % n == 0]
    return max([n for n in fitting if n * segments.clip_tokens <= largest], default=1)


def refusal(query: Any, visual_key: Any, segments: Segments, target: Target) -> str | None:
    """Why this implementation does not take the inputs, or None."""
    if query.dtype not in (jnp.bfloat16, jnp.float32):
        return f"dtype {query.dtype}; it takes bfloat16 and float32"
    if query.shape[3] != LANES:
        return f"head size {query.shape[3]} is not {LANES}"
    if segments.size > LANES:
        return f"{segments.size} clips in a segment; it takes up to {LANES}"
    clips = clips_at_once(segments, default_blocks(query, segments, target).keys)
    tokens = clips * segments.clip_tokens
    if tokens % SUBLANES and tokens != visual_key.shape[1]:
        return (
            f"{clips} clips of {segments.clip_tokens} tokens, what segments of {segments.size} "
            f"every {segments.stride} have in common, are no multiple of {SUBLANES} tokens"
        )
    return wrong_platform("tpu", target.platform)


def default_blocks(query: Any, segments: Segments, target: Target) -> BlockSizes:
    """Measured block sizes for the shape, or safe ones."""
    return tuned(BlockSizes(), target.device_kind, table_key(query, segments))


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
    kv_heads, texts = visual_key.shape[2], given.text_key.shape[1]
    group = heads // kv_heads
    block = min(blocks.rows, -(-num_rows // 16) * 16)
    row_blocks = -(-num_rows // block)
    padded_rows = row_blocks * block
    padded_texts = -(-texts // LANES) * LANES
    clips = clips_at_once(segments, blocks.keys)
    parts, advance = segments.size // clips, segments.stride // clips
    tokens = clips * segments.clip_tokens
    stored = -(-segments.count // SUBLANES) * SUBLANES

    def flat(x: Array) -> Array:
        return x.reshape(*x.shape[:2], -1)  # heads side by side: a head is one lane tile

    asked = pad_rows(given.asked, padded_rows).astype(jnp.float32)
    # Blocks of rows none of which asks are passed over.
    asks = jnp.any(asked.reshape(batch, row_blocks, block) > 0, axis=2).astype(jnp.int32)
    spec = pl.BlockSpec
    out = pl.pallas_call(
        functools.partial(
            _kernel, segments=segments, group=group, parts=parts, clips=clips, text_keys=blocks.keys
        ),
        name="clip_scores",
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(batch, kv_heads, row_blocks, segments.count, parts),
            in_specs=[
                spec((None, block, group * size), lambda b, k, r, s, p, _: (b, r, k)),
                spec((None, block, LANES), lambda b, k, r, s, p, _: (b, r, 0)),
                spec((None, padded_texts, size), lambda b, k, r, s, p, _: (b, 0, k)),
                spec((None, 1, padded_texts), lambda b, k, r, s, p, _: (b, 0, 0)),
                spec((None, tokens, size), lambda b, k, r, s, p, _: (b, s * advance + p, k)),
                spec((None, tokens, size), lambda b, k, r, s, p, _: (b, p, 0)),
                spec((None, tokens, size), lambda b, k, r, s, p, _: (b, p, 0)),
            ],
            out_specs=spec(
                (None, None, None, stored, LANES), lambda b, k, r, s, p, _: (b, k, r, 0, 0)
            ),
            scratch_shapes=[
                pltpu.VMEM((group * block, size), given.query.dtype),
                *(pltpu.VMEM((group * block, LANES), jnp.float32) for _ in range(3)),
            ],
        ),
        out_shape=jax.ShapeDtypeStruct((batch, kv_heads, row_blocks, stored, LANES), jnp.float32),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary", "arbitrary")
        ),
        interpret=interpret,
    )(
        asks,
        flat(pad_rows(given.query, padded_rows)),
        jnp.broadcast_to(asked[..., None], (batch, padded_rows, LANES)),
        flat(pad_rows(given.text_key, padded_texts)),
        jnp.where(pad_rows(given.text_seen, padded_texts), 0.0, MASKED)[:, None, :],
        flat(visual_key),
        given.cos,
        _signed(given.sin),
    )
    return jnp.sum(out, axis=(1, 2))[:, : segments.count, : segments.size]


def _signed(sin: Array) -> Array:
    """So that turning is x * cos + roll(x, half) * sin: the sign sits in the table."""
    half = sin.shape[-1] // 2
    return jnp.concatenate([-sin[..., :half], sin[..., half:]], axis=-1)


def _kernel(
    asks_ref: Any,
    query_ref: Any,
    asked_ref: Any,
    text_key_ref: Any,
    text_bias_ref: Any,
    key_ref: Any,
    cos_ref: Any,
    sin_ref: Any,
    out_ref: Any,
    rows_ref: Any,
    text_lse_ref: Any,
    most_ref: Any,
    sums_ref: Any,
    *,
    segments: Segments,
    group: int,
    parts: int,
    clips: int,
    text_keys: int,
) -> None:
    """One block of rows, one segment, one part of its keys.

    rows_ref: [group * rows, H] the rows of all heads, one below the other; text_lse_ref:
    log-sum-exp over the text keys; most_ref, sums_ref: running maximum, and sum per clip (a lane
    each). What there is one of per row fills all lanes.
    """
    example, row_block = pl.program_id(0), pl.program_id(2)
    segment, part = pl.program_id(3), pl.program_id(4)
    size = key_ref.shape[1]
    scale = size**-0.5
    asking = asks_ref[example, row_block] > 0

    @pl.when((segment == 0) & (part == 0))
    def _() -> None:
        out_ref[...] = jnp.zeros_like(out_ref)

    @pl.when(asking & (segment == 0) & (part == 0))
    def _() -> None:
        for head in range(group):
            block = query_ref.shape[0]
            rows_ref[head * block : (head + 1) * block, :] = query_ref[
                :, head * size : (head + 1) * size
            ]
        most = jnp.full(most_ref.shape, MASKED, jnp.float32)
        total = jnp.zeros(most_ref.shape, jnp.float32)
        texts = text_key_ref.shape[0]
        for start in range(0, texts, text_keys):
            stop = min(start + text_keys, texts)
            scores = _product(rows_ref[...], text_key_ref[start:stop, :]) * scale
            scores += text_bias_ref[:, start:stop]
            new_most = jnp.maximum(most, jnp.max(scores, axis=1, keepdims=True))
            weights = jnp.exp(scores - new_most[:, :1])
            total = total * jnp.exp(most - new_most) + jnp.sum(weights, axis=1, keepdims=True)
            most = new_most
        text_lse_ref[...] = most + jnp.log(total)

    @pl.when(asking & (part == 0))
    def _() -> None:
        most_ref[...] = text_lse_ref[...]
        sums_ref[...] = jnp.zeros_like(sums_ref)

    @pl.when(asking)
    def _() -> None:
        raw = key_ref[...].astype(jnp.float32)
        turned = raw * cos_ref[...] + pltpu.roll(raw, size // 2, 1) * sin_ref[...]
        scores = _product(rows_ref[...], turned.astype(rows_ref.dtype)) * scale
        most = most_ref[...]
        new_most = jnp.maximum(most, jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.exp(scores - new_most[:, :1])
        # A product with clips as columns sums each clip's tokens, whatever their number.
        shape = (scores.shape[1], LANES)
        token = lax.broadcasted_iota(jnp.int32, shape, 0) + part * shape[0]
        first = lax.broadcasted_iota(jnp.int32, shape, 1) * segments.clip_tokens
        belongs = (token >= first) & (token < first + segments.clip_tokens)
        per_clip = jnp.dot(
            weights.astype(rows_ref.dtype),
            belongs.astype(jnp.float32).astype(rows_ref.dtype),
            preferred_element_type=jnp.float32,
        )
        sums_ref[...] = sums_ref[...] * jnp.exp(most - new_most) + per_clip
        most_ref[...] = new_most

    @pl.when(asking & (part == parts - 1))
    def _() -> None:
        sums = sums_ref[...]
        of_text = jnp.exp(text_lse_ref[...] - most_ref[...])
        share = sums / (of_text + jnp.sum(sums, axis=1, keepdims=True))
        asked = asked_ref[...]
        block = asked.shape[0]
        total = jnp.zeros((1, LANES), jnp.float32)
        for head in range(group):
            here = share[head * block : (head + 1) * block, :] * asked
            total += jnp.sum(here, axis=0, keepdims=True)
        out_ref[pl.ds(segment, 1), :] = total


def _product(rows: Array, keys: Array) -> Array:
    return lax.dot_general(rows, keys, NT, preferred_element_type=jnp.float32)
