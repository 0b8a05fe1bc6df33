"""The exact GELU, x times the normal distribution function."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def gelu(x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Applies the exact GELU.

    In bfloat16 it is computed in float32 by the error function and rounded once, as PyTorch does.
    The complementary error function of `jax.nn.gelu` differs only where the result is below 1e-5,
    and its case distinction takes a TPU a pass of its own over the hidden layer.
    """
    if x.dtype == jnp.float32:
        return jax.nn.gelu(x, approximate=False)
    wide = x.astype(jnp.float32)
    out = 0.5 * wide * (1 + jax.lax.erf(wide * math.sqrt(0.5)))
    # Keeps it with the product before it. TPU compilers move it into the product after it, where it
    # is computed again for every block of that product's columns.
    return jax.lax.optimization_barrier(out.astype(x.dtype))
