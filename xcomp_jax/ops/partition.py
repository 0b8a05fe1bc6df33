"""Partitioning of kernels over a mesh, which the compiler cannot derive from their bodies.

The mesh is the one in force (`jax.set_mesh`, `jax.sharding.use_abstract_mesh`). Without one, or
inside a `shard_map`, kernels run unchanged. A mesh axis that does not divide its dimension is not
used: its devices repeat the computation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.sharding import PartitionSpec
from jaxtyping import Bool, Float

from xcomp_jax.sharding import batch_axes, mesh_sizes

HEAD_AXIS = "tensor"

Attend = Callable[[Array, Array, Array, Array | None], tuple[Array, Array | None]]


def over_batch_and_heads(
    attend: Attend,
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    key_mask: Bool[Array, "B S"] | None,
) -> tuple[Float[Array, "B Q N H"], Float[Array, "B Q N"] | None]:
    """Runs attention on every device's own examples and heads."""
    if not mesh_sizes():
        return attend(query, key, value, key_mask)
    batch = batch_axes(query.shape[0])
    tensor = mesh_sizes().get(HEAD_AXIS, 1)
    heads = HEAD_AXIS if tensor > 1 and key.shape[2] % tensor == 0 else None
    whole = PartitionSpec(batch, None, heads, None)
    return _mapped(
        attend,
        (whole, whole, whole, PartitionSpec(batch, None)),
        (whole, PartitionSpec(batch, None, heads)),
    )(query, key, value, key_mask)


def over_batch(function: Callable[..., Array], *arrays: Any) -> Array:
    """Runs `function` on every device's own examples, the first axis of all arrays."""
    if not mesh_sizes():
        return function(*arrays)
    spec = PartitionSpec(batch_axes(jax.tree.leaves(arrays)[0].shape[0]))
    return _mapped(function, (spec,) * len(arrays), spec)(*arrays)


def _mapped(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)
