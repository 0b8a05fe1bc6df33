"""Root-mean-square norm of the language model and of one video encoder."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, scaled in the compute dtype (as Qwen2 does)."""

    eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., D] -> [..., D]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        x = x.astype(jnp.float32)
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.eps)
        return x.astype(self.dtype) * scale.astype(self.dtype)
