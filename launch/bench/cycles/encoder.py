"""The video encoder's block, the rest of the encoder, and token merging."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from xcomp_jax.config import ModelConfig
from xcomp_jax.engine.encoder import CLIPS_PER_DEVICE
from xcomp_jax.launch.bench.cycles.program import REPEATS, Program
from xcomp_jax.launch.preflight.machines import shape
from xcomp_jax.models.projector import Projector
from xcomp_jax.models.tome import merge_steps
from xcomp_jax.models.xcomp import ENCODERS, abstract_params
from xcomp_jax.variants import XCOMP_2B

FRAMES = 1024


def encoder_block(config: ModelConfig = XCOMP_2B) -> Program:
    """Returns one block over `CLIPS_PER_DEVICE` clips."""
    vision = config.vision
    tokens = vision.clip_frames * vision.patches_per_frame
    return Program(
        name="encoder block",
        lower=lambda mesh: _lower_encoder(config, mesh),
        product_flops=CLIPS_PER_DEVICE * 2 * tokens * vision.width**2 * (4 + 2 * vision.mlp_ratio),
        kernel_flops=CLIPS_PER_DEVICE * 4 * tokens**2 * vision.width,
        per_1024_frames=_calls(config) * vision.num_blocks,
        looped=True,
    )


def patch_embedding(config: ModelConfig = XCOMP_2B) -> Program:
    """Returns what the encoder does once per clip: patch embedding, positions and closing norm."""
    vision = config.vision
    tokens = vision.clip_frames * vision.patches_per_frame
    return Program(
        name="patch embedding",
        lower=lambda mesh: _lower_encoder(config, mesh),
        product_flops=CLIPS_PER_DEVICE * 2 * tokens * 3 * vision.patch_size**2 * vision.width,
        kernel_flops=0,
        per_1024_frames=_calls(config),
        outside_loop=True,
    )


def token_merging(config: ModelConfig = XCOMP_2B) -> Program:
    """Returns token merging of `CLIPS_PER_DEVICE` clips."""
    vision = config.vision
    tokens = vision.clip_frames * vision.patches_per_frame
    target = vision.clip_frames * config.projector.tokens_per_frame
    size, products = tokens, 0
    for merged in merge_steps(tokens, target):
        products += (size + 1) // 2 * (size // 2)
        size -= merged

    def lower(mesh: Mesh) -> Any:
        features = (CLIPS_PER_DEVICE, tokens, vision.width)
        merge = lambda x: Projector(config, config.compute_dtype).apply({}, x, method="merge")  # noqa: E731
        return jax.jit(merge).lower(shape(mesh, features, config.compute_dtype))

    return Program(
        name="token merging",
        lower=lower,
        # Float32 at the highest precision is six passes of bfloat16.
        product_flops=6 * CLIPS_PER_DEVICE * 2 * products * vision.width / vision.num_heads,
        kernel_flops=0,
        per_1024_frames=_calls(config),
    )


def _calls(config: ModelConfig) -> float:
    return FRAMES / config.vision.clip_frames / CLIPS_PER_DEVICE


def _lower_encoder(config: ModelConfig, mesh: Mesh) -> Any:
    vision = config.vision
    depth = REPEATS + vision.depth - vision.num_blocks
    config = dataclasses.replace(config, vision=dataclasses.replace(vision, depth=depth))
    encoder = ENCODERS[vision.architecture](config.vision, config.compute_dtype, None)
    params = jax.tree.map(
        lambda leaf: shape(mesh, leaf.shape, config.compute_dtype),
        abstract_params(config)["vision"],
    )
    side = vision.image_size
    clips = shape(mesh, (CLIPS_PER_DEVICE, vision.clip_frames, side, side, 3), jnp.bfloat16)
    return jax.jit(lambda params, x: encoder.apply({"params": params}, x)).lower(params, clips)
