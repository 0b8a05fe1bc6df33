"""Applying one LP-Comp reduction to the visual rows of a sequence."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.compression.schedule import Drop


def apply_drop(visual: Array, drop: Drop) -> Array:
    """Reduces [B, V, D] visual tokens to [B, V // group * kept, D].

    Suffixes and single positions are plain slices; only `uniform` gathers, along a static index
    list.
    """
    batch, length, width = visual.shape
    runs = visual.reshape(batch, length // drop.group, drop.group, width)
    if drop.average:
        return jnp.mean(runs, axis=2)
    first, last = drop.keep[0], drop.keep[-1]
    if drop.keep == tuple(range(first, last + 1)):
        kept = runs[:, :, first : last + 1]
    else:
        kept = runs[:, :, np.asarray(drop.keep)]
    return kept.reshape(batch, -1, width)
