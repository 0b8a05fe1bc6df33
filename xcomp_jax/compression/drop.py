"""Applies one LP-Comp reduction to the visual tokens of a sequence."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from xcomp_jax.compression.schedule import Drop


def apply_drop(visual: Float[Array, "B V D"], drop: Drop) -> Float[Array, "B V_after D"]:
    """Reduces visual tokens, V / drop.run * drop.tokens_per_run of which remain.

    Suffixes and single positions are plain slices; only `uniform` gathers, along a static index
    list.
    """
    batch, length, width = visual.shape
    runs = visual.reshape(batch, length // drop.run, drop.run, width)
    if drop.average:
        return jnp.mean(runs, axis=2)
    first, last = drop.keep[0], drop.keep[-1]
    if drop.keep == tuple(range(first, last + 1)):
        runs = runs[:, :, first : last + 1]
    else:
        runs = runs[:, :, np.asarray(drop.keep)]
    return runs.reshape(batch, -1, width)
