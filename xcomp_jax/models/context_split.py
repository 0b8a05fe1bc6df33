"""Sharing a decoder's sequence out over the mesh axis `context`."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array

from xcomp_jax.compression.schedule import LayerGroup, RankedDrop, smallest_run
from xcomp_jax.config import ConfigError
from xcomp_jax.models.sequence import Share
from xcomp_jax.sharding import mesh_sizes

# Four rounds spend 62 % of the full products in attention where a causal mask needs 50 %.
ROUNDS = (4, 2)


@dataclasses.dataclass(frozen=True)
class ContextSplit:
    """share: of the visual tokens; unit: visual slots must be a multiple of it, and text slots of
    `share.devices`, on all of which a part of them lies."""

    share: Share
    unit: int

    def text(self, x: Array) -> Array:
        """[B, S, D] filled up so that every device has equally many rows."""
        return _filled(x, self.share.devices)

    def video(self, x: Array) -> Array:
        """Visual tokens [B, V, D], filled up, in the order of devices."""
        return self.share.to_devices(_filled(x, self.unit))


def context_split(layer_groups: tuple[LayerGroup, ...], slots: int) -> ContextSplit:
    """Whole runs of visual tokens for every device of `context` on the mesh in force.

    Args:
        slots: visual tokens, padding included.

    Raises:
        ConfigError: a ranked schedule, which picks tokens from the whole video at once.
    """
    devices = mesh_sizes().get("context", 1)
    if devices == 1:
        return ContextSplit(Share(), 1)
    if any(isinstance(stage.drop, RankedDrop) for stage in layer_groups):
        raise ConfigError(
            f"compression.schedule='ranked' on a mesh with context={devices}: it picks tokens from "
            "the whole video, which is not on one device; set mesh.context=1"
        )
    unit = devices * smallest_run(layer_groups)
    units = -(-slots // unit)
    rounds = next((n for n in ROUNDS if units % n == 0), 1)
    return ContextSplit(Share(devices, rounds), unit)


def _filled(x: Array, multiple: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % multiple), (0, 0)))
