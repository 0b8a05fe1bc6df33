"""Places parameters and batches of inference on one device or a mesh.

On a mesh, the rule table `sharding.RULES` places the parameters: sharded along `fsdp`, `tensor` and
`context`, replicated along `data`. Batches of videos, windows and questions are split
over `data` and `fsdp`, clips over all devices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xcomp_jax.config import MeshConfig
from xcomp_jax.sharding import (
    BATCH_AXES,
    batch_split,
    make_mesh,
    mesh_sizes,
    parameter_shardings,
)

Tree = TypeVar("Tree")

PARAMETER_SHARE = 0.6
"""Maximum share of a device's memory for replicated parameters; caches need the rest."""


class Placement:
    """Places the arguments of an engine's programs.

    Args:
        mesh: devices to use; None uses the default device.
    """

    def __init__(self, mesh: Mesh | None) -> None:
        self.mesh = mesh
        self.num_devices = 1 if mesh is None else mesh.size
        self.batch_multiple = 1 if mesh is None else batch_split(mesh)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context manager that activates the mesh."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def parameters(self, params: Any) -> Any:
        """Places parameters by the rule table."""
        if self.mesh is None:
            return params
        return jax.device_put(params, parameter_shardings(params, self.mesh))

    def batch(self, tree: Tree) -> Tree:
        """Splits arrays [B, ...] over the devices; B is a multiple of `batch_multiple`."""
        return self._put(tree, PartitionSpec(BATCH_AXES))

    def clips(self, clips: np.ndarray) -> Any:
        """Splits clips [C, ...] over all devices; C is a multiple of `num_devices`."""
        return self._put(clips, PartitionSpec(self.mesh.axis_names if self.mesh else None))

    def windows(self, caches: Tree) -> Tree:
        """Places window caches from host memory as `split_windows` leaves them on the devices.

        Otherwise a further question would run another program, with every window on every device.
        """
        mesh = self.mesh
        if mesh is None:
            return jax.device_put(caches)

        def put(leaf: Any) -> Any:
            if not isinstance(leaf, np.ndarray):
                return leaf
            return jax.device_put(leaf, NamedSharding(mesh, _window_spec(leaf, dict(mesh.shape))))

        return jax.tree.map(put, caches)

    def _put(self, tree: Tree, spec: PartitionSpec) -> Tree:
        if self.mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, spec))


def replicated(tree: Any) -> Any:
    """Replicates results on the active mesh, so that every process can read them."""
    if not mesh_sizes():
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def split_windows(caches: Tree) -> Tree:
    """Splits window caches [L, W, S, K, H] over the active mesh: windows, and heads by `tensor`."""
    sizes = mesh_sizes()
    if not sizes:
        return caches
    return jax.tree.map(
        lambda x: jax.lax.with_sharding_constraint(x, _window_spec(x, sizes)), caches
    )


def _window_spec(leaf: Any, sizes: Mapping[str, int]) -> PartitionSpec:
    tensor = sizes.get("tensor", 1)
    heads = "tensor" if tensor > 1 and leaf.shape[3] % tensor == 0 else None
    return PartitionSpec(None, BATCH_AXES, None, heads)


def default_mesh(params: Any, devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """Returns a mesh over the local devices, or None for a single device.

    Parameters that fit in `PARAMETER_SHARE` of a device's memory are replicated (`data`), larger
    ones are sharded (`fsdp`).

    Args:
        params: arrays or shapes.
        devices: devices of the mesh; default: all local ones.
    """
    devices = jax.local_devices() if devices is None else devices
    if len(devices) == 1:
        return None
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    fits = memory is None or size <= PARAMETER_SHARE * memory
    config = MeshConfig(data=-1, fsdp=1) if fits else MeshConfig(data=1, fsdp=-1)
    return make_mesh(config, list(devices))
