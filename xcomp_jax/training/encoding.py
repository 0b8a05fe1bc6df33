"""Encodes a training batch into visual tokens, from frames or from stored merged features."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.config import ConfigError, StageConfig
from xcomp_jax.models import apply
from xcomp_jax.models.clip_encoding import encode_clips
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.sharding import constrained


def visual_tokens(model: XComp, stage: StageConfig, params: Params, batch: Any) -> Array:
    """Encodes a batch into visual tokens [B, F * tokens_per_frame, D].

    Args:
        batch: arrays with `merged_features` [B, F * tokens_per_frame, D_vision], the encoder's
            output after token merging, or `frames` [B, F, X, X, 3] uint8 (`data.pipeline`).

    Raises:
        ConfigError: the batch has `merged_features`, but the stage trains the encoder.
        ValueError: the number of frames is not a multiple of the clip length.
    """
    if "merged_features" in batch:
        if "vision" in stage.trainable:
            raise ConfigError(
                f"stage {stage.name!r}: trainable={stage.trainable} has 'vision', but the batch "
                "has stored features instead of frames; remove 'vision', or train from videos"
            )
        merged = batch["merged_features"]
    else:
        merged = merged_features(model, stage, params, batch["frames"])
    tokens = apply.project_merged(model, params, constrained(merged, context=1))
    if stage.projector_learns_below_frames is not None:
        is_trained = batch["num_frames"] < stage.projector_learns_below_frames
        tokens = jnp.where(is_trained[:, None, None], tokens, jax.lax.stop_gradient(tokens))
    return constrained(tokens, context=1)


def merged_features(model: XComp, stage: StageConfig, params: Params, frames: Array) -> Array:
    """Encodes uint8 [B, F, X, X, 3] into merged features [B, F * tokens_per_frame, D_vision]."""
    batch_size, num_frames = frames.shape[:2]
    # A single frame is an image, which is a clip of its own.
    clip = 1 if num_frames == 1 else model.config.vision.clip_frames
    if num_frames % clip:
        raise ValueError(f"{num_frames=} is not a multiple of {clip}, the encoder's clip length")
    clips = frames.reshape(batch_size, -1, clip, *frames.shape[2:])
    frozen = "vision" not in stage.trainable
    encoded = encode_clips(model, params["vision"], clips, frozen=frozen)
    return encoded.reshape(batch_size, -1, encoded.shape[-1])
