"""Define a program to compile for a pod, and abstract arrays on its mesh."""

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
    """A program and the least work of one run.

    Attributes:
        lower: traces the program; called under the mesh.
        flops: operations of the model, over all devices.
        recomputed: operations that remat adds, over all devices.
        moved_bytes: least bytes that one device reads from and writes to its memory.
    """

    name: str
    lower: Callable[[], Any]
    flops: float
    recomputed: float = 0.0
    moved_bytes: float = 0.0


def split_over_batch(mesh: Mesh, sizes: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """Returns an abstract array whose first axis is sharded like a batch."""
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, BATCH))


def replicated(mesh: Mesh, sizes: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """Returns an abstract array that every device holds whole."""
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, PartitionSpec()))


def placed(tree: Any, shardings: Any, dtype: Any = None) -> Any:
    """Returns the abstract arrays of `tree` with `shardings`; `dtype` replaces floating dtypes."""

    def leaf_with(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        floating = dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(
            leaf.shape, dtype if floating else leaf.dtype, sharding=sharding
        )

    return jax.tree.map(leaf_with, tree, shardings)


def device_bytes(tree: Any) -> int:
    """Returns the bytes per device of a tree of `placed` arrays."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
