"""From patch features of a clip to visual tokens of the language model (facts: projector)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from xcomp_jax.config import ModelConfig
from xcomp_jax.models.tome import merge_tokens


class Projector(nn.Module):
    """Token merging, then Linear - GELU(erf) - Linear."""

    config: ModelConfig
    dtype: jnp.dtype

    def setup(self) -> None:
        self.fc1 = nn.Dense(self.config.llm.hidden_size, dtype=self.dtype)
        self.fc2 = nn.Dense(self.config.llm.hidden_size, dtype=self.dtype)

    def __call__(self, features: Array) -> Array:
        """[C, T * P, D_vision] -> [C, T * tokens_per_frame, D_llm]."""
        return self.mlp(self.merge(features))

    def merge(self, features: Array) -> Array:
        """[C, T * P, D_vision] -> [C, T * tokens_per_frame, D_vision]; has no parameters."""
        cfg = self.config
        frames = features.shape[1] // cfg.vision.patches_per_frame
        target = frames * cfg.projector.tokens_per_frame
        return merge_tokens(features, target, cfg.vision.num_heads)[0]

    def mlp(self, merged: Array) -> Array:
        """[..., D_vision] -> [..., D_llm]."""
        return self.fc2(nn.gelu(self.fc1(merged), approximate=False))
