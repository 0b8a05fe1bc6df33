"""Projector: patch features of a clip to visual tokens of the language model.

Reference: docs/reference_behaviour.md#projector.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from xcomp_jax.config import ModelConfig
from xcomp_jax.models.gelu import gelu
from xcomp_jax.models.tome import merge_tokens


class Projector(nn.Module):
    """Token merging, then Linear - GELU(erf) - Linear."""

    config: ModelConfig
    dtype: jnp.dtype

    def setup(self) -> None:
        self.fc1 = nn.Dense(self.config.llm.hidden_size, dtype=self.dtype)
        self.fc2 = nn.Dense(self.config.llm.hidden_size, dtype=self.dtype)

    def __call__(self, features: Float[Array, "C S D_vision"]) -> Float[Array, "C V D"]:
        """Merges S = T * P features of a clip and projects them to V = T * tokens_per_frame."""
        return self.mlp(self.merge(features))

    def merge(self, features: Float[Array, "C S D_vision"]) -> Float[Array, "C V D_vision"]:
        """Merges the features of a clip to V = T * tokens_per_frame; has no parameters."""
        cfg = self.config
        frames = features.shape[1] // cfg.vision.patches_per_frame
        target = frames * cfg.projector.tokens_per_frame
        return merge_tokens(features, target, cfg.vision.num_heads)[0]

    def mlp(self, merged: Float[Array, "*batch D_vision"]) -> Float[Array, "*batch D"]:
        """Projects merged features to the width of the language model."""
        return self.fc2(gelu(self.fc1(merged)))
