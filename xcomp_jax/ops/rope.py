"""Rotary position embedding in the half-split form of Qwen2."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array


def rope_tables(
    positions: Array, head_dim: int, theta: float, dtype: jnp.dtype
) -> tuple[Array, Array]:
    """Cosine and sine, each [B, S, head_dim], for integer `positions` [B, S].

    Angles are float32 (bfloat16 cannot count beyond 256), cast only at the end like the original's.
    """
    # On the host and by division, as the original: an ulp of frequency is 0.004 rad at token
    # 65,536.
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = np.float32(1) / np.float32(theta) ** exponent
    angle = positions.astype(jnp.float32)[..., None] * frequency
    angle = jnp.concatenate([angle, angle], axis=-1)
    return jnp.cos(angle).astype(dtype), jnp.sin(angle).astype(dtype)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Turns [B, S, N, H] queries or keys to their positions."""
    left, right = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([-right, left], axis=-1)
    return x * cos[:, :, None, :] + turned * sin[:, :, None, :]
