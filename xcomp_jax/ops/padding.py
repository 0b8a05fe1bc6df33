"""Padding to whole blocks of a kernel."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped


def pad_rows(x: Shaped[Array, "B S ..."], length: int) -> Shaped[Array, "B {length} ..."]:
    """Appends zeros to the rows of every example."""
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1])) + ((0, 0),) * (x.ndim - 2))
