"""The visual tokens of a batch, from its frames or from what the encoder once made of them."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from xcomp_jax.config import ConfigError, StageConfig
from xcomp_jax.models.xcomp import Params, XComp, run
from xcomp_jax.sharding import batch_axes, constrained, mesh_sizes
from xcomp_jax.video.normalize import normalize

# Clips encoded at a time when the encoder is frozen: nothing of it is kept for a backward pass.
FROZEN_CLIPS_PER_CALL = 32
# Every device encodes clips. Frames are split over `context` already; the other axes that do not
# split the batch take what is left.
CLIP_AXES = ("context", "data", "fsdp", "tensor")


def visual_tokens(model: XComp, stage: StageConfig, params: Params, batch: Any) -> Array:
    """[B, F * tokens_per_frame, D] embeddings for the language model.

    Args:
        batch: with `merged_features` [B, F * tokens_per_frame, D_vision], the encoder's output
            after token merging, or with `frames` [B, F, S, S, 3] uint8 (see `data.pipeline`).

    Raises:
        ConfigError: `merged_features` for a stage that trains the encoder.
        ValueError: frames that are no whole clips.
    """
    if "merged_features" in batch:
        if "vision" in stage.trainable:
            raise ConfigError(
                f"stage {stage.name!r}: trainable={stage.trainable} has 'vision', but the batch "
                "holds stored features instead of frames; take 'vision' out, or read videos"
            )
        merged = batch["merged_features"]
    else:
        merged = merged_features(model, stage, params, batch["frames"])
    tokens = run(model, params, "project_merged", constrained(merged, context=1))
    if stage.projector_learns_below_frames is not None:
        learns = batch["num_frames"] < stage.projector_learns_below_frames
        tokens = jnp.where(learns[:, None, None], tokens, jax.lax.stop_gradient(tokens))
    return constrained(tokens, context=1)


def merged_features(model: XComp, stage: StageConfig, params: Params, frames: Array) -> Array:
    """[B, F, S, S, 3] uint8 -> [B, F * tokens_per_frame, D_vision], clips shared by all devices."""
    batch_size, num_frames = frames.shape[:2]
    # A single frame is an image, which the encoder sees as a clip of its own.
    clip = 1 if num_frames == 1 else model.config.vision.clip_frames
    if num_frames % clip:
        raise ValueError(f"{num_frames=} must be a multiple of vision.clip_frames={clip}")
    clips = frames.reshape(batch_size, -1, clip, *frames.shape[2:])
    frozen = "vision" not in stage.trainable

    def encode(vision: Params, some: Array) -> Array:
        return run(model, {"vision": vision}, "merged_features", normalize(some))

    def encode_own(vision: Params, own: Array) -> Array:
        flat = own.reshape(-1, *own.shape[2:])
        if not frozen or flat.shape[0] <= FROZEN_CLIPS_PER_CALL:
            tokens = encode(vision, flat)
        else:
            tokens = jax.lax.map(
                lambda one: encode(vision, one[None])[0], flat, batch_size=FROZEN_CLIPS_PER_CALL
            )
        return tokens.reshape(*own.shape[:2], *tokens.shape[1:])

    vision, sizes = params["vision"], mesh_sizes()
    if sizes:
        # By hand, because token merging sorts and gathers clip by clip, which the compiler would
        # not leave where it is. Each device needs the whole encoder for that.
        batch = batch_axes(batch_size)
        others = tuple(axis for axis in CLIP_AXES if axis in sizes and axis not in (batch or ()))
        own = PartitionSpec(batch, others or None)
        filling = -clips.shape[1] % math.prod(sizes[axis] for axis in others)
        filled = jnp.pad(clips, ((0, 0), (0, filling), *((0, 0),) * 4))
        vision = _for_gathering(model, vision) if frozen else vision
        encoded = jax.shard_map(
            encode_own, in_specs=(PartitionSpec(), own), out_specs=own, check_vma=False
        )(vision, filled)[:, : clips.shape[1]]
    else:
        encoded = encode_own(vision, clips)
    return encoded.reshape(batch_size, -1, encoded.shape[-1])


def _for_gathering(model: XComp, vision: Params) -> Params:
    """Kernels in the dtype they are used in, which halves what is sent in bfloat16."""

    def cast(path: tuple[Any, ...], leaf: Array) -> Array:
        return leaf.astype(model.config.compute_dtype) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(cast, vision)
