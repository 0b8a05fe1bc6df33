"""Layer norm whose mean and variance can be computed where its input is written."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


class Moments(NamedTuple):
    """Mean and variance over the last axis, float32 [..., 1]."""

    mean: Array
    variance: Array


def moments(x: Float[Array, "*batch D"]) -> Moments:
    """Computes the moments of every row.

    Float32 needs two passes: in one pass the variance cancels when the mean is large against the
    spread. Of bfloat16 values one pass of float32 sums is enough: the cancellation stays below what
    rounding the values to 8 bits has done to their spread. One pass is part of the operation that
    writes x.
    """
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    if x.dtype == jnp.float32:
        return Moments(mean, jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True))
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return Moments(mean, jnp.maximum(mean_square - jnp.square(mean), 0.0))


class LayerNorm(nn.Module):
    """Layer norm in float32 with the parameters of `flax.linen.LayerNorm`."""

    eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"], known: Moments) -> Float[Array, "*batch D"]:
        """Normalizes the last axis by its moments."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        over_channels = (None,) * (x.ndim - 1)
        factor = lax.rsqrt(known.variance + self.eps) * scale[over_channels].astype(jnp.float32)
        out = (x.astype(jnp.float32) - known.mean) * factor
        return (out + bias[over_channels].astype(jnp.float32)).astype(self.dtype)
