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

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """[C, T * P, D_vision] -> [C, T * tokens_per_frame, D_llm]."""
        cfg = self.config
        frames = features.shape[1] // cfg.vision.patches_per_frame
        target = frames * cfg.projector.tokens_per_frame
        merged, _ = merge_tokens(features, target, cfg.vision.num_heads)
        hidden = nn.Dense(cfg.llm.hidden_size, dtype=self.dtype, name="fc1")(merged)
        hidden = nn.gelu(hidden, approximate=False)
        return nn.Dense(cfg.llm.hidden_size, dtype=self.dtype, name="fc2")(hidden)
