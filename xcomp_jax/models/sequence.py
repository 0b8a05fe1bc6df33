"""The token sequence of the decoder: text before the video, visual tokens, text after it.

Each of the three parts is padded on its right to a bucket, so that the order of slots is the order
of tokens. Positions count real tokens only and start anew at every stage, as in the original
(facts: LP-Comp in the LLM); padding is masked as a key and its rows are never read.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax.numpy as jnp
from jax import Array


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
class Layout:
    """Slots of each part (static)."""

    prefix: int
    visual: int
    suffix: int

    def positions(self, lengths: Lengths) -> Array:
        """[B, S] int32 rotary position of every slot (arbitrary on padding)."""
        before = lengths.prefix[:, None]
        return jnp.concatenate(
            [
                jnp.broadcast_to(jnp.arange(self.prefix), (before.shape[0], self.prefix)),
                before + jnp.arange(self.visual),
                before + lengths.visual[:, None] + jnp.arange(self.suffix),
            ],
            axis=1,
        )

    def mask(self, lengths: Lengths) -> Array:
        """[B, S] bool, True on real tokens."""
        return jnp.concatenate(
            [
                jnp.arange(size) < length[:, None]
                for size, length in (
                    (self.prefix, lengths.prefix),
                    (self.visual, lengths.visual),
                    (self.suffix, lengths.suffix),
                )
            ],
            axis=1,
        )

    def split(self, x: Array) -> tuple[Array, Array, Array]:
        """[B, S, D] -> prefix, visual and suffix rows."""
        first, second = self.prefix, self.prefix + self.visual
        return x[:, :first], x[:, first:second], x[:, second:]
