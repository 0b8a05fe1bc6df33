"""The compiled programs of a session; lengths are bucketed, so that few of them are needed."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.engine.buckets import bucket
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.video.normalize import normalize

# Clips encoded by one call: enough to fill a device, few enough that UMT-L at 448 px stays below 2
# GB.
CLIPS_PER_CALL = 4


@functools.partial(jax.jit, static_argnames="model")
def encode_clips(model: XComp, params: Params, clips: Array) -> Array:
    """uint8 clips [C, T, S, S, 3] -> visual tokens [C, T * tokens_per_frame, D]."""
    return apply.encode(model, params, normalize(clips))


def encode_some(model: XComp, params: Params, clips: np.ndarray) -> np.ndarray:
    """Visual tokens [C, T * tokens_per_frame, D] of uint8 clips [C, T, S, S, 3], on the host.

    Works through them a few at a time; the last call is filled up with black clips, so that any
    number of clips runs the same compiled program in the same memory.
    """
    encoded = []
    for start in range(0, len(clips), CLIPS_PER_CALL):
        some = clips[start : start + CLIPS_PER_CALL]
        room = np.zeros((CLIPS_PER_CALL, *clips.shape[1:]), np.uint8)
        room[: len(some)] = some
        encoded.append(np.asarray(encode_clips(model, params, room))[: len(some)])
    return np.concatenate(encoded)


@functools.partial(jax.jit, static_argnames="model")
def prefill(
    model: XComp,
    params: Params,
    prefix_ids: Array,
    visual: Array,
    suffix_ids: Array,
    lengths: Lengths,
) -> tuple[Array, tuple[LayerGroupCache, ...]]:
    """Logits [B, vocab] after the last text token, and the cache of unequal length per stage."""
    out = apply.prefill(model, params, prefix_ids, visual, suffix_ids, lengths, keep_cache=True)
    last = jnp.take_along_axis(out.suffix, (lengths.suffix - 1)[:, None, None], axis=1)[:, 0]
    assert out.cache is not None
    return apply.logits(model, params, last), out.cache


@functools.partial(jax.jit, static_argnames="model")
def prefill_video(
    model: XComp, params: Params, prefix_ids: Array, visual: Array, lengths: Lengths
) -> tuple[LayerGroupCache, ...]:
    """The cache of text before and video, padded [B, P] and [B, V, D]."""
    return apply.prefill_video(model, params, prefix_ids, visual, lengths)


@functools.partial(jax.jit, static_argnames="model")
def extend(
    model: XComp,
    params: Params,
    ids: Array,
    length: Array,
    written: Array,
    cache: tuple[LayerGroupCache, ...],
    text: TextCache,
) -> tuple[Array, TextCache]:
    """Reads text [B, Q], `length` [B] of it real, after a watched video and `written` [B] tokens.

    Returns:
        logits [B, vocab] after the last real token, and `text` with the keys of the new rows.
    """
    hidden, text = apply.extend(model, params, ids, written, cache, text)
    last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)[:, 0]
    return apply.logits(model, params, last), text


@functools.partial(jax.jit, static_argnames=("model", "batch", "room"))
def empty_text(model: XComp, params: Params, batch: int, room: int) -> TextCache:
    """Room for `room` tokens of text."""
    return apply.empty_text_cache(model, params, batch, room)


def padded_ids(sequences: Sequence[Sequence[int]], unit: int) -> np.ndarray:
    """[B, S] int32, zeros behind each sequence, S rounded up to a bucket."""
    length = bucket(max(len(ids) for ids in sequences), unit)
    return np.stack(
        [np.pad(np.asarray(ids, np.int32), (0, length - len(ids))) for ids in sequences]
    )
