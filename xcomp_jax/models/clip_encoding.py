"""Encoding of video clips, split over every device of the mesh in force."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec
from jaxtyping import Float, UInt8

from xcomp_jax.models import apply
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.sharding import batch_axes, mesh_sizes
from xcomp_jax.video.normalize import normalize

# Clips that a frozen encoder processes at a time: no activation is kept for a backward pass.
FROZEN_CLIPS_PER_CALL = 32
# `context` splits the frames of a batch already; the other axes split clips only where they do not
# split the batch.
CLIP_AXES = ("context", "data", "fsdp", "tensor")


def encode_clips(
    model: XComp,
    vision_params: Params,
    clips: UInt8[Array, "*B C T X X 3"],
    *,
    frozen: bool = True,
    clips_per_call: int = FROZEN_CLIPS_PER_CALL,
) -> Float[Array, "*B C V D_vision"]:
    """Encodes clips into merged features, the input of the projector's two layers.

    On a mesh every device encodes its own share of the clips with the whole encoder; clips that do
    not divide evenly are padded with black ones.

    Args:
        vision_params: parameters of the video encoder, the part `vision` of the model's.
        clips: of one video, or with a leading batch axis those of several.
        frozen: no gradient is needed, so the encoder may be gathered in the compute dtype and run
            over `clips_per_call` clips at a time, which bounds its memory.

    Returns:
        V = T * tokens_per_frame features of every clip.
    """
    if clips.ndim == 5:
        return encode_clips(
            model, vision_params, clips[None], frozen=frozen, clips_per_call=clips_per_call
        )[0]

    def encode_local(vision: Params, local: Array) -> Array:
        flat = local.reshape(-1, *local.shape[2:])
        size = clips_per_call if frozen else flat.shape[0]
        features = _encode_in_parts(model, vision, flat, size)
        return features.reshape(*local.shape[:2], *features.shape[1:])

    if not mesh_sizes():
        return encode_local(vision_params, clips)
    # Split by hand: the compiler would move the sorts and gathers of token merging between devices.
    spec, multiple = _clip_split(clips.shape[0])
    padding = -clips.shape[1] % multiple
    padded = jnp.pad(clips, ((0, 0), (0, padding), *((0, 0),) * 4))
    vision = _kernels_in_compute_dtype(model, vision_params) if frozen else vision_params
    features = jax.shard_map(
        encode_local, in_specs=(PartitionSpec(), spec), out_specs=spec, check_vma=False
    )(vision, padded)
    return features[:, : clips.shape[1]]


def _encode_in_parts(model: XComp, vision: Params, clips: Array, size: int) -> Array:
    """Encodes uint8 clips [C, T, X, X, 3], `size` at a time."""

    def encode(some: Array) -> Array:
        pixels: Any = normalize(some)
        return apply.merged_features(model, {"vision": vision}, pixels)

    if clips.shape[0] <= size:
        return encode(clips)
    return jax.lax.map(lambda clip: encode(clip[None])[0], clips, batch_size=size)


def _clip_split(batch: int) -> tuple[PartitionSpec, int]:
    """Mesh axes of [B, C, ...] clips, and the number of parts that C is split into."""
    sizes = mesh_sizes()
    examples = batch_axes(batch)
    axes = tuple(axis for axis in CLIP_AXES if axis in sizes and axis not in (examples or ()))
    return PartitionSpec(examples, axes or None), math.prod(sizes[axis] for axis in axes)


def _kernels_in_compute_dtype(model: XComp, vision: Params) -> Params:
    """Casts the matrices to the dtype they are used in: bfloat16 halves what is gathered."""

    def cast(path: tuple[Any, ...], leaf: Array) -> Array:
        return leaf.astype(model.config.compute_dtype) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(cast, vision)
