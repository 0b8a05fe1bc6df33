"""Rotary position embedding in the half-split form of Qwen2."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from xcomp_jax.ops.heads import heads_come_first


@jax.named_scope("rope")
def rope_tables(
    positions: Int[Array, "B S"], head_dim: int, theta: float, dtype: jnp.dtype
) -> tuple[Float[Array, "B S {head_dim}"], Float[Array, "B S {head_dim}"]]:
    """Computes cosine and sine of the rotation angles at integer `positions`.

    Angles are float32 (bfloat16 cannot count beyond 256) and cast at the end, as in the original.
    """
    # On the host and by division, as the original: an ulp of frequency is 0.004 rad at token
    # 65,536.
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = np.float32(1) / np.float32(theta) ** exponent
    angle = positions.astype(jnp.float32)[..., None] * frequency[None, None, :]
    angle = jnp.concatenate([angle, angle], axis=-1)
    return jnp.cos(angle).astype(dtype), jnp.sin(angle).astype(dtype)


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
