"""Build the model with random weights on the device, and its prefill."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax import flops
from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import (
    CompressionConfig,
    LLMConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, abstract_params
from xcomp_jax.variants import XCOMP_2B

# 863 text tokens as in the paper's timing: the template before the video, the rest after it.
PREFIX, SUFFIX = 14, 849

TINY = ModelConfig(
    vision=VisionConfig(
        image_size=32, patch_size=8, width=32, depth=3, num_heads=2, mlp_ratio=2.0, clip_frames=4
    ),
    projector=ProjectorConfig(tokens_per_frame=10),
    llm=LLMConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
    ),
    dtype="float32",
)


def model_config(*, tiny: bool, compressed: bool = True) -> ModelConfig:
    """Returns the published 2B model or a tiny one, with or without LP-Comp."""
    config = TINY if tiny else XCOMP_2B
    if compressed:
        return config
    return dataclasses.replace(config, compression=CompressionConfig(schedule="none"))


def random_params(config: ModelConfig, *parts: str, dtype: Any = None) -> Params:
    """Returns random parameters of some parts of the model, small enough not to overflow."""
    leaves, structure = jax.tree.flatten({part: abstract_params(config)[part] for part in parts})

    def init(key: Array) -> Params:
        keys = jax.random.split(key, len(leaves))
        arrays = [
            0.02 * jax.random.normal(k, leaf.shape, dtype or config.compute_dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, arrays)

    # Compiles in a fraction of the time of the default generator.
    return jax.jit(init)(jax.random.key(0, impl="rbg"))


def prefill_inputs(config: ModelConfig, frames: int) -> tuple[Any, ...]:
    """Returns random text ids, visual tokens, text ids and lengths of one video, no padding."""
    tokens = frames * config.projector.tokens_per_frame
    keys = jax.random.split(jax.random.key(1), 3)
    before, after = (
        jax.random.randint(key, (1, n), 0, config.llm.vocab_size)
        for key, n in zip(keys[:2], (PREFIX, SUFFIX), strict=True)
    )
    # Random, because a chip that multiplies zeros draws less power and runs faster.
    visual = 0.02 * jax.random.normal(
        keys[2], (1, tokens, config.llm.hidden_size), config.compute_dtype
    )
    lengths = Lengths(*(jnp.full((1,), n, jnp.int32) for n in (PREFIX, tokens, SUFFIX)))
    return before, visual, after, lengths


def prefill_flops(config: ModelConfig, frames: int) -> int:
    """Counts the operations of `prefill`: every layer with its own tokens, one row of the head."""
    tokens = config.projector.tokens_per_frame
    groups = plan_layer_groups(
        config.compression,
        num_layers=config.llm.num_hidden_layers,
        tokens_per_frame=tokens,
    )
    layers = flops.prefill_flops(config, groups, text=PREFIX + SUFFIX, visual=frames * tokens)
    return layers + 2 * config.llm.hidden_size * config.llm.vocab_size
