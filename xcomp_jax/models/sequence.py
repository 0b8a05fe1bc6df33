"""The token sequence of the decoder: text before the video, visual tokens, text after it.

Each of the three parts is padded on its right to a bucket, so that the order of slots is the order
of tokens. Positions count real tokens only and start anew in every layer group, as in the original
(docs/reference_behaviour.md#lp-comp); padding is masked as a key, and its rows are never read.

Over several devices along `context` the slots are in the order of devices: each device holds an
equal share of every part, and whole frames of the video, so that compression moves no token
between devices.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int, Shaped

from xcomp_jax.ops.attention import padded_length
from xcomp_jax.sharding import constrained


@flax.struct.dataclass
class Lengths:
    """Real tokens of each part, int32 [B] each."""

    prefix: Array
    visual: Array
    suffix: Array

    @property
    def total(self) -> Array:
        """Real tokens of the whole sequence, [B]."""
        return self.prefix + self.visual + self.suffix


@dataclasses.dataclass(frozen=True)
class Parts:
    """Hidden states of the parts, each [B, _, D] in the order of devices, and their lengths."""

    prefix: Array
    visual: Array
    suffix: Array
    lengths: Lengths


@dataclasses.dataclass(frozen=True)
class DeviceOrder:
    """Distribution of the slots of a part over `devices`, in `rounds` rounds (static).

    In every round each device gets an equal run of consecutive slots. Several rounds give every
    device both early and late tokens, which saves attention products (`ops.context_parallel`).
    """

    devices: int = 1
    rounds: int = 1

    def to_devices(self, x: Shaped[Array, "B S ..."]) -> Shaped[Array, "B S ..."]:
        """Reorders slots from the order of tokens to the order of devices."""
        return self._transposed(x, self.rounds, self.devices)

    def to_tokens(self, x: Shaped[Array, "B S ..."]) -> Shaped[Array, "B S ..."]:
        """Reorders slots from the order of devices to the order of tokens."""
        return self._transposed(x, self.devices, self.rounds)

    def _transposed(self, x: Array, outer: int, inner: int) -> Array:
        if outer == 1 or inner == 1:
            return x
        runs = x.reshape(x.shape[0], outer, inner, -1, *x.shape[2:])
        return jnp.swapaxes(runs, 1, 2).reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Slots of each part on all devices together, and the order of the visual ones.

    spare: slots of padding after the parts, so that kernels need not pad the sequence in every
    layer; on one device only.
    """

    prefix: int
    visual: int
    suffix: int
    order: DeviceOrder = DeviceOrder()
    spare: int = 0

    @classmethod
    def of(cls, parts: Parts, order: DeviceOrder) -> Layout:
        """Returns the layout of `parts`."""
        prefix, visual, suffix = (
            part.shape[1] for part in (parts.prefix, parts.visual, parts.suffix)
        )
        slots = prefix + visual + suffix
        spare = padded_length(slots) - slots if order.devices == 1 else 0
        return cls(prefix, visual, suffix, order, spare)

    @property
    def pieces(self) -> tuple[int, ...]:
        """Slots of one device: text before, each round of the video, text after."""
        devices, rounds = self.order.devices, self.order.rounds
        video = (self.visual // devices // rounds,) * rounds
        return (self.prefix // devices, *video, self.suffix // devices)

    def positions(self, lengths: Lengths) -> Int[Array, "B S"]:
        """Computes the rotary position of every slot (arbitrary on padding)."""
        before = lengths.prefix[:, None]
        return self._joined_in_token_order(
            jnp.broadcast_to(jnp.arange(self.prefix), (before.shape[0], self.prefix)),
            before + jnp.arange(self.visual)[None, :],
            before + lengths.visual[:, None] + jnp.arange(self.suffix)[None, :],
        )

    def mask(self, lengths: Lengths) -> Bool[Array, "B S"]:
        """Marks real tokens with True."""
        prefix, visual, suffix = (
            jnp.arange(size)[None, :] < length[:, None]
            for size, length in (
                (self.prefix, lengths.prefix),
                (self.visual, lengths.visual),
                (self.suffix, lengths.suffix),
            )
        )
        return self._joined_in_token_order(prefix, visual, suffix)

    def join(
        self,
        prefix: Shaped[Array, "B prefix ..."],
        visual: Shaped[Array, "B V ..."],
        suffix: Shaped[Array, "B suffix ..."],
    ) -> Shaped[Array, "B S ..."]:
        """Concatenates the three parts, each in the order of devices, and the spare slots."""
        parts = [self._by_device(x) for x in (prefix, visual, suffix)]
        if self.spare:
            shape = (prefix.shape[0], 1, self.spare, *prefix.shape[2:])
            parts.append(jnp.zeros(shape, prefix.dtype))
        x = jnp.concatenate([constrained(part, context=1) for part in parts], axis=2)
        return self.constrained(x.reshape(x.shape[0], -1, *x.shape[3:]))

    def constrained(self, x: Shaped[Array, "B S ..."]) -> Shaped[Array, "B S ..."]:
        """Places examples and slots where they belong on the mesh in force."""
        return constrained(x, context=1 if self.order.devices > 1 else None)

    def split(
        self, x: Shaped[Array, "B S ..."]
    ) -> tuple[
        Shaped[Array, "B prefix ..."], Shaped[Array, "B V ..."], Shaped[Array, "B suffix ..."]
    ]:
        """Cuts a sequence into prefix, visual and suffix rows, each in the order of devices."""
        devices = self.order.devices
        first, second = self.prefix // devices, (self.prefix + self.visual) // devices
        end = second + self.suffix // devices
        by_device = self._by_device(x)
        prefix, visual, suffix = (
            part.reshape(x.shape[0], size, *x.shape[2:])
            for part, size in (
                (by_device[:, :, :first], self.prefix),
                (by_device[:, :, first:second], self.visual),
                (by_device[:, :, second:end], self.suffix),
            )
        )
        return prefix, visual, suffix

    def _by_device(self, x: Array) -> Array:
        devices = self.order.devices
        return x.reshape(x.shape[0], devices, x.shape[1] // devices, *x.shape[2:])

    def _joined_in_token_order(self, prefix: Array, visual: Array, suffix: Array) -> Array:
        return self.join(prefix, self.order.to_devices(visual), suffix)
