"""The token sequence of the decoder: text before the video, visual tokens, text after it.

Each of the three parts is padded on its right to a bucket, so that the order of slots is the order
of tokens. Positions count real tokens only and start anew at every stage, as in the original
(facts: LP-Comp in the LLM); padding is masked as a key and its rows are never read.

Over several devices along `context` the slots are in the order of devices: each has an equal share
of every part, of the video whole frames, so that frames drop tokens without leaving their device.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax.numpy as jnp
from jax import Array

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
class Share:
    """How the slots of a part are dealt out (static): `devices` times, in `rounds` rounds.

    In every round each device gets an equal run of consecutive slots. Several rounds give every
    device both early and late tokens, which saves attention products (`ops.context_parallel`).
    """

    devices: int = 1
    rounds: int = 1

    def to_devices(self, x: Array) -> Array:
        """[B, S, ...] from the order of tokens to the order of devices."""
        return self._exchanged(x, self.rounds, self.devices)

    def to_tokens(self, x: Array) -> Array:
        """Back again."""
        return self._exchanged(x, self.devices, self.rounds)

    def _exchanged(self, x: Array, outer: int, inner: int) -> Array:
        if outer == 1 or inner == 1:
            return x
        runs = x.reshape(x.shape[0], outer, inner, -1, *x.shape[2:])
        return jnp.swapaxes(runs, 1, 2).reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Slots of each part, of all devices together, and how those of the video are shared."""

    prefix: int
    visual: int
    suffix: int
    share: Share = Share()

    @property
    def pieces(self) -> tuple[int, ...]:
        """Slots of one device: text before, each round of the video, text after."""
        devices, rounds = self.share.devices, self.share.rounds
        video = (self.visual // devices // rounds,) * rounds
        return (self.prefix // devices, *video, self.suffix // devices)

    def positions(self, lengths: Lengths) -> Array:
        """[B, S] int32 rotary position of every slot (arbitrary on padding)."""
        before = lengths.prefix[:, None]
        return self._joined_tokens(
            jnp.broadcast_to(jnp.arange(self.prefix), (before.shape[0], self.prefix)),
            before + jnp.arange(self.visual),
            before + lengths.visual[:, None] + jnp.arange(self.suffix),
        )

    def mask(self, lengths: Lengths) -> Array:
        """[B, S] bool, True on real tokens."""
        prefix, visual, suffix = (
            jnp.arange(size) < length[:, None]
            for size, length in (
                (self.prefix, lengths.prefix),
                (self.visual, lengths.visual),
                (self.suffix, lengths.suffix),
            )
        )
        return self._joined_tokens(prefix, visual, suffix)

    def join(self, prefix: Array, visual: Array, suffix: Array) -> Array:
        """The three parts [B, _, D], each in the order of devices -> [B, S, D]."""
        parts = [self._by_device(x) for x in (prefix, visual, suffix)]
        x = jnp.concatenate([constrained(part, context=1) for part in parts], axis=2)
        return self.constrained(x.reshape(x.shape[0], -1, *x.shape[3:]))

    def constrained(self, x: Array) -> Array:
        """`x` [B, S, ...] where its examples and slots belong on the mesh in force."""
        return constrained(x, context=1 if self.share.devices > 1 else None)

    def split(self, x: Array) -> tuple[Array, Array, Array]:
        """[B, S, D] -> prefix, visual and suffix rows, each in the order of devices."""
        devices = self.share.devices
        first, second = self.prefix // devices, (self.prefix + self.visual) // devices
        own = self._by_device(x)
        prefix, visual, suffix = (
            part.reshape(x.shape[0], size, *x.shape[2:])
            for part, size in (
                (own[:, :, :first], self.prefix),
                (own[:, :, first:second], self.visual),
                (own[:, :, second:], self.suffix),
            )
        )
        return prefix, visual, suffix

    def _by_device(self, x: Array) -> Array:
        devices = self.share.devices
        return x.reshape(x.shape[0], devices, x.shape[1] // devices, *x.shape[2:])

    def _joined_tokens(self, prefix: Array, visual: Array, suffix: Array) -> Array:
        return self.join(prefix, self.share.to_devices(visual), suffix)
