"""Describe devices to compile for without attaching them.

    with described("v5e"): jax.jit(f).lower(...).compile()

TPUs need the compiler (libtpu), GPUs the plugin (`pip install 'jax[cuda12]'` or
`'jax[cuda13]'`) but no driver. Set `environment.ENVIRONMENT` before JAX is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from xcomp_jax.launch.preflight.topologies import CLUSTERS, CUBES, PLANES, Topologies
from xcomp_jax.sharding import AXES

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """One kind of device.

    Attributes:
        topology: the compiler's name of the smallest set of these devices.
        topologies: sizes that exist.
        memory_bytes: memory per device that a program may use.
        link_gbytes: GB/s that one device can send to the others of its pod or host while it
            receives as much (half of the vendor's figure, which adds both directions).
        target_config: description of a GPU that is not attached.
    """

    platform: str
    topology: str
    topologies: Topologies
    memory_bytes: int
    link_gbytes: float
    target_config: str | None = None


def _tpu(topology: str, topologies: Topologies, memory_bytes: int, link_gbytes: float) -> Machine:
    return Machine(
        platform="tpu",
        topology=topology,
        topologies=topologies,
        memory_bytes=memory_bytes,
        link_gbytes=link_gbytes,
    )


def _gpu(name: str, memory_bytes: int, bandwidth: int) -> Machine:
    # Hopper SXM, as the driver reports it; H100 and H200 differ in memory only.
    config = f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 registers_per_core_limit: 65536 registers_per_block_limit: 65536
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} device_memory_size: {memory_bytes}
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{name}"
"""
    return Machine(
        platform="cuda",
        topology="1x1x1",
        topologies=CLUSTERS,
        memory_bytes=memory_bytes,
        link_gbytes=450,
        target_config=config,
    )


MACHINES = {
    # Usable part of 16, 95 and 32 GiB, as the compiler reports it.
    "v5e": _tpu("v5e:1x1", PLANES, int(15.75 * GIB), 200),
    "v5p": _tpu("v5p:2x2x1", CUBES, int(95.74 * GIB), 600),
    "v6e": _tpu("v6e:1x1", PLANES, int(31.25 * GIB), 400),
    "h100": _gpu("NVIDIA H100 80GB HBM3", 84_929_347_584, 3_352_320_000_000),
    "h200": _gpu("NVIDIA H200", 150_754_820_096, 4_800_000_000_000),
}


def missing(machine: Machine) -> str | None:
    """Returns the command that installs the compiler of `machine`, or None if it is installed."""
    if machine.platform == "tpu":
        found = importlib.util.find_spec("libtpu")
        return None if found else f"pip install '{libtpu_requirement()}'"
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    installed = any(importlib.util.find_spec(name) for name in plugins)
    return None if installed else "pip install 'jax[cuda12]' (or cuda13)"


def libtpu_requirement() -> str:
    """Returns the requirement of libtpu that belongs to the installed JAX, such as libtpu==1.2.*.

    A newer libtpu writes programs that this JAX cannot read, so that traffic stays unknown.
    """
    for requirement in metadata.requires("jax") or ():
        name, _, marker = requirement.partition(";")
        if name.startswith("libtpu") and "tpu" in marker:
            return name.strip()
    return "libtpu"


def absent_devices(name: str, topology: str | None = None) -> list[Any]:
    """Describes the devices of machine `name`: the smallest set, or all devices of `topology`.

    Raises:
        KeyError: the name is unknown.
        RuntimeError: the compiler is not installed, or does not know the topology.
    """
    if name not in MACHINES:
        raise KeyError(f"{name!r} not found; known: {sorted(MACHINES)}")
    machine = MACHINES[name]
    if command := missing(machine):
        raise RuntimeError(f"compiling for {name} needs: {command}")
    topology = topology or machine.topology
    options: dict[str, Any] = {"platform": machine.platform}
    if machine.target_config is None:
        options["topology_name"] = topology
        if topology.endswith(":1x1"):
            # By default the compiler describes hosts of 2x2 chips.
            options["chips_per_host_bounds"] = (1, 1, 1)
    else:
        options |= {"topology": topology, "target_config": machine.target_config}
    return list(topologies.get_topology_desc(**options).devices)


@contextlib.contextmanager
def described(name: str) -> Iterator[Mesh]:
    """Enters a mesh of one device of machine `name`, so that `ops` choose kernels for it.

    Raises:
        KeyError: the name is unknown.
        RuntimeError: the compiler is not installed.
    """
    devices = absent_devices(name)[:1]
    axes = (AxisType.Auto,) * len(AXES)
    mesh = Mesh(np.array(devices).reshape((1,) * len(AXES)), AXES, axis_types=axes)
    with jax.set_mesh(mesh):
        yield mesh


def shape(mesh: Mesh, sizes: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """Returns an abstract array on the mesh's only device."""
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, PartitionSpec()))
