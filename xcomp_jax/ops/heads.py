"""Projections into attention heads and out of them, in the layout of the device's kernels.

Arrays are [B, S, N, H] everywhere, but the TPU kernel reads each head as one matrix [S, H]. There a
product with the weights cut into heads writes that layout directly, and another one reads it. A
product with the whole matrix would leave both to copies of every query, key, value and output.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from xcomp_jax.ops.target import current_target


def heads_come_first() -> bool:
    """Returns True if kernels of the current target store each head as one matrix."""
    return current_target().platform == "tpu"


def project_to_heads(
    x: Float[Array, "B S D"],
    kernel: Float[Array, "D NH"],
    heads: int,
    bias: Float[Array, " NH"] | None = None,
) -> Float[Array, "B S {heads} H"]:
    """Multiplies `x` by `kernel`, whose columns are the heads side by side, and adds `bias`."""
    size = kernel.shape[1] // heads
    if not heads_come_first():
        out = x @ kernel
        if bias is not None:
            out = out + bias[None, None, :]
        return out.reshape(*x.shape[:2], heads, size)
    out = jnp.einsum("bsd,dnh->bnsh", x, kernel.reshape(-1, heads, size))
    if bias is not None:
        out = out + bias.reshape(1, heads, 1, size)
    return jnp.swapaxes(out, 1, 2)


def project_from_heads(
    x: Float[Array, "B S N H"], kernel: Float[Array, "NH D"]
) -> Float[Array, "B S D"]:
    """Multiplies the heads of `x`, side by side, by `kernel`."""
    batch, rows, heads, size = x.shape
    if not heads_come_first():
        return x.reshape(batch, rows, heads * size) @ kernel
    first = jnp.swapaxes(x, 1, 2)
    return jnp.einsum("bnsh,nhd->bsd", first, kernel.reshape(heads, size, -1))
