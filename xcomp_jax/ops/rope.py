"""Rotary position embedding in the half-split form of Qwen2."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from xcomp_jax.ops.heads import heads_come_first


@dataclasses.dataclass(frozen=True)
class Yarn:
    """Rotation for `factor` times the trained context (YaRN, arXiv 2309.00071, as in Hugging Face).

    Frequencies with fewer than `slow` turns within the trained context are divided by the factor,
    those with more than `fast` are kept, and the others lie in between.
    """

    theta: float
    factor: float
    trained_context: int = 32_768
    fast: float = 32.0
    slow: float = 1.0

    def frequencies(self, frequency: np.ndarray) -> np.ndarray:
        """Returns the changed frequencies [H / 2]."""
        size = 2 * len(frequency)

        def channel(turns: float) -> float:
            wavelength = self.trained_context / (2 * math.pi * turns)
            return size * math.log(wavelength) / (2 * math.log(self.theta))

        low = max(math.floor(channel(self.fast)), 0)
        high = min(math.ceil(channel(self.slow)), size - 1)
        ramp = np.clip((np.arange(len(frequency)) - low) / max(high - low, 1e-3), 0, 1)
        mixed = frequency / self.factor * ramp + frequency * (1 - ramp)
        return mixed.astype(np.float32)

    @property
    def scale(self) -> float:
        """Factor of cosine and sine, which sharpens attention over more keys."""
        return 0.1 * math.log(self.factor) + 1


RopeBase = float | Yarn
"""Base of the rotation angles, theta, with or without YaRN."""


def rope_base(theta: float, yarn_factor: float) -> RopeBase:
    """Returns the base of a model; a factor of 1 is plain rotation."""
    return theta if yarn_factor == 1 else Yarn(theta, yarn_factor)


@jax.named_scope("rope")
def rope_tables(
    positions: Int[Array, "B S"], head_dim: int, base: RopeBase, dtype: jnp.dtype
) -> tuple[Float[Array, "B S {head_dim}"], Float[Array, "B S {head_dim}"]]:
    """Computes cosine and sine of the rotation angles at integer `positions`.

    Angles are float32 (bfloat16 cannot count beyond 256) and cast at the end, as in the original.
    """
    # On the host and by division, as the original: an ulp of frequency is 0.004 rad at token
    # 65,536.
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    theta = base.theta if isinstance(base, Yarn) else base
    frequency = np.float32(1) / np.float32(theta) ** exponent
    if isinstance(base, Yarn):
        frequency = base.frequencies(frequency)
    angle = positions.astype(jnp.float32)[..., None] * frequency[None, None, :]
    angle = jnp.concatenate([angle, angle], axis=-1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if isinstance(base, Yarn):
        cos, sin = cos * base.scale, sin * base.scale
    return cos.astype(dtype), sin.astype(dtype)


@jax.named_scope("rope")
def rotate(
    x: Float[Array, "B S N H"], cos: Float[Array, "#B S H"], sin: Float[Array, "#B S H"]
) -> Float[Array, "B S N H"]:
    """Rotates queries or keys to the positions of the tables."""
    if heads_come_first():
        heads = jnp.swapaxes(x, 1, 2)
        heads = heads * cos[:, None] + _turned_by_product(heads) * sin[:, None]
        return jnp.swapaxes(heads, 1, 2)
    left, right = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([-right, left], axis=-1)
    return x * cos[:, :, None, :] + turned * sin[:, :, None, :]


def _turned_by_product(x: Float[Array, "*batch H"]) -> Float[Array, "*batch H"]:
    """Computes (-right, left) of the halves of the last axis by a signed permutation matrix.

    Exact, like the concatenation. Halves of 64 lanes are no whole tiles of a TPU, and moving them
    takes several passes over memory; the product takes one, with the rotation in its epilogue.
    """
    half = x.shape[-1] // 2
    turn = np.zeros((2 * half, 2 * half), np.float32)
    turn[np.arange(half) + half, np.arange(half)] = -1
    turn[np.arange(half), np.arange(half) + half] = 1
    return jnp.einsum("...h,hg->...g", x, jnp.asarray(turn, x.dtype), precision="highest")
