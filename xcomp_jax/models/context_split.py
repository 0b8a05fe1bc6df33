"""Distribution of a decoder's sequence over the mesh axis `context`."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from xcomp_jax.compression.schedule import LayerGroup, RankedDrop, smallest_run
from xcomp_jax.config import ConfigError
from xcomp_jax.models.sequence import DeviceOrder
from xcomp_jax.sharding import mesh_sizes

# Four rounds compute 62 % of the full products in attention, where a causal mask needs 50 %.
ROUNDS = (4, 2)


@dataclasses.dataclass(frozen=True)
class ContextSplit:
    """Padding and order of the parts of a sequence.

    order: of the visual tokens; unit: visual slots are padded to a multiple of it, and text slots
    to a multiple of `order.devices`.
    """

    order: DeviceOrder
    unit: int

    def text(self, x: Float[Array, "B S D"]) -> Float[Array, "B S_padded D"]:
        """Pads text so that every device has equally many rows."""
        return _padded(x, self.order.devices)

    def video(self, x: Float[Array, "B V D"]) -> Float[Array, "B V_padded D"]:
        """Pads visual tokens and puts them in the order of devices."""
        return self.order.to_devices(_padded(x, self.unit))


def context_split(layer_groups: tuple[LayerGroup, ...], slots: int) -> ContextSplit:
    """Plans whole runs of visual tokens for every device of `context` on the mesh in force.

    Args:
        slots: visual tokens, padding included.

    Raises:
        ConfigError: a ranked schedule, which selects tokens from the whole video at once.
    """
    devices = mesh_sizes().get("context", 1)
    if devices == 1:
        return ContextSplit(DeviceOrder(), 1)
    if any(isinstance(group.drop, RankedDrop) for group in layer_groups):
        raise ConfigError(
            f"compression.schedule='ranked' on a mesh with context={devices}: it selects tokens "
            "from the whole video, which is not on one device; set mesh.context=1"
        )
    unit = devices * smallest_run(layer_groups)
    units = -(-slots // unit)
    rounds = next((n for n in ROUNDS if units % n == 0), 1)
    return ContextSplit(DeviceOrder(devices, rounds), unit)


def _padded(x: Array, multiple: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % multiple), (0, 0)))
