"""Clip scores on TPU in one fused Pallas kernel.

For a block of question rows, the softmax over the text keys is summed once and stored. Segments
follow, a few clips at a time: keys are rotated to their positions in the segment, scored, and
summed per clip against a running maximum. The sums of the clips are also the segment's part of the
denominator, so nothing else is stored of a row. All query heads of one key head share a product.
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
from jaxtyping import Float

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
    """rows: question rows in one block; keys: largest number multiplied at a time."""

    rows: int = 128
    keys: int = 512

    def __post_init__(self) -> None:
        if self.rows < 16 or self.rows % 16:
            raise ValueError(f"rows={self.rows} must be a positive multiple of 16")
        if self.keys < LANES or self.keys % LANES:
            raise ValueError(f"keys={self.keys} must be a positive multiple of {LANES}")


def clips_at_once(segments: Segments, largest: int) -> int:
    """Counts the clips in one block of keys: they tile every segment, in up to `largest` tokens."""
    shared = math.gcd(segments.size, segments.stride) if segments.count > 1 else segments.size
    fitting = [n for n in range(1, shared + 1) if shared % n == 0]
    return max([n for n in fitting if n * segments.clip_tokens <= largest], default=1)


def refusal(query: Any, visual_key: Any, segments: Segments, target: Target) -> str | None:
    """Returns why this implementation does not support the inputs, or None."""
    if query.dtype not in (jnp.bfloat16, jnp.float32):
        return f"dtype {query.dtype}; it supports bfloat16 and float32"
    if query.shape[3] != LANES:
        return f"head size {query.shape[3]} is not {LANES}"
    if segments.size > LANES:
        return f"{segments.size} clips in a segment; it supports up to {LANES}"
    clips = clips_at_once(segments, default_blocks(query, segments, target).keys)
    tokens = clips * segments.clip_tokens
    if tokens % SUBLANES and tokens != visual_key.shape[1]:
        return (
            f"{clips} clips of {segments.clip_tokens} tokens, the common part of segments of "
            f"{segments.size} every {segments.stride}, are not a multiple of {SUBLANES} tokens"
        )
    return wrong_platform("tpu", target.platform)


def default_blocks(query: Any, segments: Segments, target: Target) -> BlockSizes:
    """Returns measured block sizes for the shape, or safe ones."""
    return tuned(BlockSizes(), target.device_kind, table_key(query, segments))


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
    batch, num_rows, heads, size = prepared.query.shape
    blocks = blocks or default_blocks(prepared.query, segments, target)
    kv_heads, texts = visual_key.shape[2], prepared.text_key.shape[1]
    block = min(blocks.rows, -(-num_rows // 16) * 16)
    row_blocks = -(-num_rows // block)
    padded_rows, padded_texts = row_blocks * block, -(-texts // LANES) * LANES
    clips = clips_at_once(segments, blocks.keys)
    kernel = _Kernel(segments, size, heads // kv_heads, block, clips, blocks.keys)
    stored = -(-segments.count // SUBLANES) * SUBLANES

    def flat(x: Array) -> Array:
        return x.reshape(*x.shape[:2], -1)  # heads side by side: a head is one lane tile

    scored = pad_rows(prepared.scored, padded_rows).astype(jnp.float32)
    # Blocks without a question row are skipped.
    active = jnp.any(scored.reshape(batch, row_blocks, block) > 0, axis=2).astype(jnp.int32)
    out = pl.pallas_call(
        functools.partial(_kernel_body, kernel=kernel),
        name="clip_scores",
        grid_spec=kernel.grid_spec(
            (batch, kv_heads, row_blocks), padded_texts, stored, prepared.query.dtype
        ),
        out_shape=jax.ShapeDtypeStruct((batch, kv_heads, row_blocks, stored, LANES), jnp.float32),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary", "arbitrary")
        ),
        interpret=interpret,
    )(
        active,
        flat(pad_rows(prepared.query, padded_rows)),
        jnp.broadcast_to(scored[..., None], (batch, padded_rows, LANES)),
        flat(pad_rows(prepared.text_key, padded_texts)),
        jnp.where(pad_rows(prepared.text_mask, padded_texts), 0.0, MASKED)[:, None, :],
        flat(visual_key),
        prepared.cos,
        _signed(prepared.sin),
    )
    return jnp.sum(out, axis=(1, 2))[:, : segments.count, : segments.size]


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """Static description of one call.

    group: query heads of one key head; rows: of one block; clips: of one part of a segment's keys;
    text_keys: multiplied at a time.
    """

    segments: Segments
    size: int
    group: int
    rows: int
    clips: int
    text_keys: int

    @property
    def parts(self) -> int:
        return self.segments.size // self.clips

    @property
    def scale(self) -> float:
        return self.size**-0.5

    def grid_spec(
        self, blocks: tuple[int, int, int], texts: int, stored: int, dtype: jnp.dtype
    ) -> pltpu.PrefetchScalarGridSpec:
        """Returns blocks for a grid of (examples, key heads, blocks of rows, segments, parts)."""
        tokens = self.clips * self.segments.clip_tokens
        advance = self.segments.stride // self.clips
        grouped, size, spec = self.group * self.rows, self.size, pl.BlockSpec
        return pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(*blocks, self.segments.count, self.parts),
            in_specs=[
                spec((None, self.rows, self.group * size), lambda b, k, r, s, p, _: (b, r, k)),
                spec((None, self.rows, LANES), lambda b, k, r, s, p, _: (b, r, 0)),
                spec((None, texts, size), lambda b, k, r, s, p, _: (b, 0, k)),
                spec((None, 1, texts), lambda b, k, r, s, p, _: (b, 0, 0)),
                spec((None, tokens, size), lambda b, k, r, s, p, _: (b, s * advance + p, k)),
                spec((None, tokens, size), lambda b, k, r, s, p, _: (b, p, 0)),
                spec((None, tokens, size), lambda b, k, r, s, p, _: (b, p, 0)),
            ],
            out_specs=spec(
                (None, None, None, stored, LANES), lambda b, k, r, s, p, _: (b, k, r, 0, 0)
            ),
            scratch_shapes=[
                pltpu.VMEM((grouped, size), dtype),
                *(pltpu.VMEM((grouped, LANES), jnp.float32) for _ in range(3)),
            ],
        )


def _signed(sin: Array) -> Array:
    """Moves the sign of the rotation into the table: x * cos + roll(x, half) * sin."""
    half = sin.shape[-1] // 2
    return jnp.concatenate([-sin[..., :half], sin[..., half:]], axis=-1)


def _kernel_body(
    active_ref: Any,
    query_ref: Any,
    scored_ref: Any,
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
    kernel: _Kernel,
) -> None:
    """Processes one block of rows, one segment, one part of its keys.

    rows_ref: [group * rows, H] the rows of all heads, one below the other; text_lse_ref:
    log-sum-exp over the text keys; most_ref, sums_ref: running maximum, and sum per clip (a lane
    each). Values with one number per row fill all lanes.
    """
    segment, part = pl.program_id(3), pl.program_id(4)
    active = active_ref[pl.program_id(0), pl.program_id(2)] > 0

    @pl.when((segment == 0) & (part == 0))
    def _() -> None:
        out_ref[...] = jnp.zeros_like(out_ref)

    @pl.when(active & (segment == 0) & (part == 0))
    def _() -> None:
        _stack_heads(kernel, query_ref, rows_ref)
        text_lse_ref[...] = _text_lse(kernel, rows_ref, text_key_ref, text_bias_ref)

    @pl.when(active & (part == 0))
    def _() -> None:
        most_ref[...] = text_lse_ref[...]
        sums_ref[...] = jnp.zeros_like(sums_ref)

    @pl.when(active)
    def _() -> None:
        raw = key_ref[...].astype(jnp.float32)
        turned = raw * cos_ref[...] + pltpu.roll(raw, kernel.size // 2, 1) * sin_ref[...]
        _add_part(kernel, turned, part, rows_ref, most_ref, sums_ref)

    @pl.when(active & (part == kernel.parts - 1))
    def _() -> None:
        sums = sums_ref[...]
        text_sum = jnp.exp(text_lse_ref[...] - most_ref[...])
        share = sums / (text_sum + jnp.sum(sums, axis=1, keepdims=True))
        out_ref[pl.ds(segment, 1), :] = _question_sum(kernel, share, scored_ref[...])


def _stack_heads(kernel: _Kernel, query_ref: Any, rows_ref: Any) -> None:
    """Copies heads that stand side by side below each other."""
    rows, size = kernel.rows, kernel.size
    for head in range(kernel.group):
        rows_ref[head * rows : (head + 1) * rows, :] = query_ref[:, head * size : (head + 1) * size]


def _text_lse(kernel: _Kernel, rows_ref: Any, text_key_ref: Any, text_bias_ref: Any) -> Array:
    """Computes the log-sum-exp of every row over the text keys, in all lanes."""
    shape = (kernel.group * kernel.rows, LANES)
    most, total = jnp.full(shape, MASKED, jnp.float32), jnp.zeros(shape, jnp.float32)
    texts = text_key_ref.shape[0]
    for start in range(0, texts, kernel.text_keys):
        stop = min(start + kernel.text_keys, texts)
        scores = _product(rows_ref[...], text_key_ref[start:stop, :]) * kernel.scale
        scores += text_bias_ref[:, start:stop]
        new_most = jnp.maximum(most, jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.exp(scores - new_most[:, :1])
        total = total * jnp.exp(most - new_most) + jnp.sum(weights, axis=1, keepdims=True)
        most = new_most
    return most + jnp.log(total)


def _add_part(
    kernel: _Kernel, key: Array, part: Array, rows_ref: Any, most_ref: Any, sums_ref: Any
) -> None:
    """Adds the weights of one part of a segment's rotated keys to the sums per clip."""
    clip_tokens = kernel.segments.clip_tokens
    scores = _product(rows_ref[...], key.astype(rows_ref.dtype)) * kernel.scale
    most = most_ref[...]
    new_most = jnp.maximum(most, jnp.max(scores, axis=1, keepdims=True))
    weights = jnp.exp(scores - new_most[:, :1])
    # A product with clips as columns sums each clip's tokens, whatever their number.
    shape = (scores.shape[1], LANES)
    token = lax.broadcasted_iota(jnp.int32, shape, 0) + part * shape[0]
    first = lax.broadcasted_iota(jnp.int32, shape, 1) * clip_tokens
    in_clip = (token >= first) & (token < first + clip_tokens)
    per_clip = jnp.dot(
        weights.astype(rows_ref.dtype),
        in_clip.astype(jnp.float32).astype(rows_ref.dtype),
        preferred_element_type=jnp.float32,
    )
    sums_ref[...] = sums_ref[...] * jnp.exp(most - new_most) + per_clip
    most_ref[...] = new_most


def _question_sum(kernel: _Kernel, share: Array, scored: Array) -> Array:
    """Sums [group * rows, LANES] over the question's rows of all heads, [1, LANES]."""
    total = jnp.zeros((1, LANES), jnp.float32)
    for head in range(kernel.group):
        head_share = share[head * kernel.rows : (head + 1) * kernel.rows, :] * scored
        total += jnp.sum(head_share, axis=0, keepdims=True)
    return total


def _product(rows: Array, keys: Array) -> Array:
    return lax.dot_general(rows, keys, NT, preferred_element_type=jnp.float32)
