"""Kernels take whole blocks."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def pad_rows(x: Array, length: int) -> Array:
    """[B, S, ...] with zeros behind its rows, [B, length, ...]."""
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1])) + ((0, 0),) * (x.ndim - 2))
