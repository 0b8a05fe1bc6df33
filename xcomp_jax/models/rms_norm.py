"""Root-mean-square norm of the language model and of InternVideo2."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, scaled in the compute dtype (as Qwen2 does)."""

    eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Normalizes the last axis."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        x = x.astype(jnp.float32)
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.eps)
        scale = jnp.expand_dims(scale.astype(self.dtype), tuple(range(x.ndim - 1)))
        return x.astype(self.dtype) * scale
