"""One program to compile for a pod, and what is known of it before."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xcomp_jax.sharding import BATCH


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program and the least work that one run of it is.

    lower: traces it; the mesh is in force meanwhile.
    flops: of all devices together, what the mathematics asks for; recomputed: what remat adds.
    moved_bytes: of one device, what must at least pass between its memory and its arithmetic.
    """

    name: str
    lower: Callable[[], Any]
    flops: float
    recomputed: float = 0.0
    moved_bytes: float = 0.0


def split_over_batch(mesh: Mesh, sizes: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array that is not there, its first axis split as batches are."""
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, BATCH))


def everywhere(mesh: Mesh, sizes: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array that is not there, whole on every device."""
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, PartitionSpec()))


def placed(tree: Any, shardings: Any, dtype: Any = None) -> Any:
    """Shapes of `tree` with `shardings`, floating leaves in `dtype` where one is given."""

    def one(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        floating = dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(
            leaf.shape, dtype if floating else leaf.dtype, sharding=sharding
        )

    return jax.tree.map(one, tree, shardings)


def device_bytes(tree: Any) -> int:
    """Bytes of one device's part of `placed` shapes."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
