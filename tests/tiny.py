"""A model that compiles in a second and has every mechanism of the published one."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xcomp_jax.config import (
    CompressionConfig,
    LLMConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, abstract_params

TINY = ModelConfig(
    vision=VisionConfig(
        image_size=24, patch_size=8, width=16, depth=3, num_heads=2, mlp_ratio=2.0, clip_frames=4
    ),
    projector=ProjectorConfig(tokens_per_frame=4),
    llm=LLMConfig(
        vocab_size=576,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_theta=10_000.0,
    ),
    compression=CompressionConfig(),
    dtype="float32",
)


@functools.cache
def tiny_params(config: ModelConfig = TINY) -> Params:
    """Draws parameters large enough that attention is far from uniform and biases matter."""
    rng = np.random.default_rng(0)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        # Drawn by NumPy: the model's own initialization takes longer to compile than most tests.
        noise = 0.2 * rng.normal(size=leaf.shape)
        return jnp.asarray(noise + (path[-1].key == "scale"), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract_params(config))


def exact(prefix: int, visual: int, suffix: int, batch: int = 1) -> Lengths:
    """Returns lengths of sequences without padding."""
    return Lengths(*(np.full((batch,), n, np.int32) for n in (prefix, visual, suffix)))
