"""Defines every compiled program of inference; no other module jits for inference.

Each takes padded arrays of static shape and runs on the active mesh (`jax.set_mesh`) or, without a
mesh, on one device. Results that the host reads are replicated, so that every process of a mesh has
them.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, UInt8

from xcomp_jax.engine.placement import replicated, split_windows
from xcomp_jax.models import apply, clip_encoding
from xcomp_jax.models.decoder_state import LayerGroupCache, PrefillOutput, TextCache, WindowCache
from xcomp_jax.models.quantized import is_quantized, quantized_cache
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.selection.plan import ScoringPlan, WindowLayerGroup
from xcomp_jax.selection.window_pass import TextQuery, prefill_window, score_window


@functools.partial(jax.jit, static_argnames="model")
def encode_clips(
    model: XComp, params: Params, clips: UInt8[Array, "C T X X 3"]
) -> Float[Array, "C V D"]:
    """Encodes uint8 clips [C, T, X, X, 3] into visual tokens [C, T * tokens_per_frame, D]."""
    merged = clip_encoding.encode_clips(model, params["vision"], clips)
    return replicated(apply.project_merged(model, params, merged))


@functools.partial(jax.jit, static_argnames="model")
def encode_videos(
    model: XComp, params: Params, frames: UInt8[Array, "B F X X 3"]
) -> Float[Array, "B V D"]:
    """Encodes uint8 videos [B, F, X, X, 3] into visual tokens [B, F * tokens_per_frame, D].

    A single frame is an image, which is a clip of its own.
    """
    batch, num_frames = frames.shape[:2]
    clip_frames = 1 if num_frames == 1 else model.config.vision.clip_frames
    clips = frames.reshape(batch, -1, clip_frames, *frames.shape[2:])
    merged = clip_encoding.encode_clips(model, params["vision"], clips)
    tokens = apply.project_merged(model, params, merged)
    return tokens.reshape(batch, -1, tokens.shape[-1])


@functools.partial(jax.jit, static_argnames="model")
def encode_features(
    model: XComp, vision: Params, clips: UInt8[Array, "C T X X 3"]
) -> Float[Array, "C V D_vision"]:
    """Encodes uint8 clips [C, T, X, X, 3] into merged features [C, T * tokens_per_frame, D_vision].

    These are the encoder's output after token merging, before the projector.
    """
    return replicated(clip_encoding.encode_clips(model, vision, clips))


@functools.partial(jax.jit, static_argnames="model")
def prefill(
    model: XComp,
    params: Params,
    prefix_ids: Int[Array, "B prefix"],
    visual: Float[Array, "B V D"],
    suffix_ids: Int[Array, "B suffix"],
    lengths: Lengths,
) -> tuple[Float[Array, "B vocab"], tuple[LayerGroupCache, ...]]:
    """Returns logits [B, vocab] after the last text token, and the cache of every layer group."""
    out = apply.prefill(model, params, prefix_ids, visual, suffix_ids, lengths, keep_cache=True)
    assert out.cache is not None
    last = jnp.take_along_axis(out.suffix, (lengths.suffix - 1)[:, None, None], axis=1)[:, 0]
    return apply.logits(model, params, last), out.cache


@functools.partial(jax.jit, static_argnames="model")
def prefill_video(
    model: XComp,
    params: Params,
    prefix_ids: Int[Array, "B prefix"],
    visual: Float[Array, "B V D"],
    lengths: Lengths,
) -> tuple[LayerGroupCache, ...]:
    """Returns the cache of the prefix [B, P] and the video [B, V, D], both padded.

    The cache of a quantised model is int8. Windows are scored from caches of their own, in the
    compute dtype.
    """
    cache = apply.prefill_video(model, params, prefix_ids, visual, lengths)
    return quantized_cache(cache) if is_quantized(params) else cache


@functools.partial(jax.jit, static_argnames="model")
def extend(
    model: XComp,
    params: Params,
    ids: Int[Array, "B Q"],
    length: Int[Array, " B"],
    text_length: Int[Array, " B"],
    cache: tuple[LayerGroupCache, ...],
    text: TextCache,
) -> tuple[Float[Array, "B vocab"], TextCache]:
    """Appends text [B, Q] of `length` [B] real tokens to a video and `text_length` [B] tokens.

    Returns:
        Logits [B, vocab] after the last real token, and `text` with the new tokens.
    """
    hidden, text = apply.extend(model, params, ids, text_length, cache, text)
    last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)[:, 0]
    return apply.logits(model, params, last), text


@functools.partial(jax.jit, static_argnames=("model", "batch", "capacity"))
def empty_text_cache(model: XComp, params: Params, batch: int, capacity: int) -> TextCache:
    """Returns a cache with room for `capacity` tokens of text."""
    return apply.empty_text_cache(model, params, batch, capacity)


@functools.partial(jax.jit, static_argnames=("model", "groups"))
def prefill_windows(
    model: XComp,
    params: Params,
    prefix_ids: Int[Array, " prefix"],
    visual: Float[Array, "B V D"],
    groups: tuple[WindowLayerGroup, ...],
) -> tuple[WindowCache, ...]:
    """Returns the caches of scoring windows [W, V, D] that follow the same prefix [P]."""
    ids = jnp.broadcast_to(prefix_ids, (visual.shape[0], prefix_ids.shape[0]))
    return split_windows(prefill_window(model, params, ids, visual, groups))


@functools.partial(jax.jit, static_argnames=("model", "plan"))
def score_windows(
    model: XComp,
    params: Params,
    caches: tuple[WindowCache, ...],
    query: TextQuery,
    plan: ScoringPlan,
) -> tuple[Float[Array, "_ B _ _"], ...]:
    """Scores one question's text in every cached window (`selection.window_pass`)."""
    windows = caches[0].key.shape[1]
    query = jax.tree.map(lambda x: jnp.broadcast_to(x, (windows, *x.shape)), query)
    return replicated(score_window(model, params, query, caches, plan))


@functools.partial(jax.jit, static_argnames="model")
def vision_features(
    model: XComp, params: Params, pixels: Float[Array, "C T X X 3"]
) -> Float[Array, "C S D_vision"]:
    """Returns the vision tower's output [C, T * P, D_vision] for normalised clips."""
    return apply.vision_features(model, params, pixels)


@functools.partial(jax.jit, static_argnames="model")
def project_features(
    model: XComp, params: Params, features: Float[Array, "C S D_vision"]
) -> Float[Array, "C V D"]:
    """Merges and projects vision features [C, T * P, D_vision] into visual tokens."""
    return apply.project(model, params, features)


@functools.partial(jax.jit, static_argnames="model")
def project_merged(
    model: XComp, params: Params, merged: Float[Array, "*batch D_vision"]
) -> Float[Array, "*batch D"]:
    """Projects merged features [..., D_vision] into visual tokens [..., D]."""
    return apply.project_merged(model, params, merged)


@functools.partial(jax.jit, static_argnames="model")
def prefill_layers(
    model: XComp,
    params: Params,
    prefix_ids: Int[Array, "B prefix"],
    visual: Float[Array, "B V D"],
    suffix_ids: Int[Array, "B suffix"],
    lengths: Lengths,
) -> tuple[PrefillOutput, Float[Array, "B R vocab"]]:
    """Returns the output of every layer, and the logits [B, S, vocab] of all remaining rows."""
    out = apply.prefill(model, params, prefix_ids, visual, suffix_ids, lengths, collect_layers=True)
    rows = jnp.concatenate([out.prefix, out.visual, out.suffix], axis=1)
    return out, apply.logits(model, params, rows)


@jax.jit
def on_every_host(tree: Any) -> Any:
    """Replicates arrays on the active mesh, so that every process can read them."""
    return replicated(tree)
