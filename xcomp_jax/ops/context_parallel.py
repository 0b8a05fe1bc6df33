"""Causal attention of a sequence whose tokens are split over the mesh axis `context`.

Every device has its own queries and gathers all keys and values. With grouped heads these are
small: of the 2B model's layer, 1 KiB a token in bfloat16 against 3 KiB of its hidden state, 64 MiB
for 4,096 frames of 16 tokens. What must never exist is the scores of all tokens with all tokens,
and the implementations of `ops.attention` make none.

The sequence is cut into pieces, and every device has an equal part of each. Rows of a piece are
multiplied with the keys up to that piece's end, on every device equally many, so no device waits
for another; n equal pieces cost (n + 1) / 2n of all products where a causal mask needs half.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from xcomp_jax.ops.attention import attention
from xcomp_jax.sharding import batch_axes, mesh_sizes

AXIS = "context"


def context_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    key_mask: Array,
    pieces: Sequence[int],
    implementation: str | None = None,
) -> Array:
    """Causal attention on the mesh in force, of which `context` has more than one device.

    Args:
        query: [B, S, N, H], key and value: [B, S, K, H], key_mask: [B, S] bool, as
            `ops.attention.attention` takes them, but in the order of devices: device i's rows stand
            together, and are its parts of all pieces.
        pieces: rows of one device's part of each piece. In the sequence's own order all devices'
            parts of the first piece come first, by device, then those of the second.
        implementation: see `ops.attention.attention`.

    Returns:
        [B, S, N, H], in the order of devices.
    """
    sizes = mesh_sizes()
    devices = sizes[AXIS]
    if query.shape[1] != devices * sum(pieces):
        raise ValueError(f"{query.shape=}: {devices} devices with {pieces=} have other rows")

    def local(query: Array, key: Array, value: Array, key_mask: Array) -> Array:
        index = lax.axis_index(AXIS)
        key, value, key_mask = (_gathered(x, pieces) for x in (key, value, key_mask))

        def own_rows(start: int, rows: int, end: int) -> Array:
            """Attention of `rows` local rows from `start` on, whose piece ends at key `end`."""
            # Kernels want a causal mask that is known while compiling, but where this device's rows
            # stand in the piece is not. So the keys are moved instead, such that the rows are
            # always the last ones; keys that come after them fall out.
            room = (devices - 1) * rows

            def moved(x: Array) -> Array:
                padded = jnp.pad(x[:, :end], ((0, 0), (room, 0), *((0, 0),) * (x.ndim - 2)))
                return lax.dynamic_slice_in_dim(padded, index * rows, end, axis=1)

            return attention(
                query[:, start : start + rows],
                moved(key),
                moved(value),
                causal=True,
                key_mask=moved(key_mask),
                query_offset=end - rows,
                implementation=implementation,
            )

        out, start = [], 0
        for rows in pieces:
            if rows:
                out.append(own_rows(start, rows, devices * (start + rows)))
            start += rows
        return jnp.concatenate(out, axis=1)

    batch = batch_axes(query.shape[0])
    tensor = sizes.get("tensor", 1)
    heads = "tensor" if tensor > 1 and key.shape[2] % tensor == 0 else None
    whole = PartitionSpec(batch, AXIS, heads, None)
    return jax.shard_map(
        local,
        in_specs=(whole, whole, whole, PartitionSpec(batch, AXIS)),
        out_specs=whole,
        check_vma=False,
    )(query, key, value, key_mask)


def _gathered(x: Array, pieces: Sequence[int]) -> Array:
    """[B, S / devices, ...] of every device -> [B, S, ...] in the sequence's own order."""
    everyone = lax.all_gather(x, AXIS, axis=1)  # B device rows ...
    parts, start = [], 0
    for rows in pieces:
        part = everyone[:, :, start : start + rows]
        parts.append(part.reshape(x.shape[0], -1, *x.shape[2:]))
        start += rows
    return jnp.concatenate(parts, axis=1)
