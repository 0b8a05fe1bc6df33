"""The device that a program is compiled for, which may differ from the one that compiles it."""

from __future__ import annotations

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Target:
    """platform: `cpu`, `tpu` or `gpu`; device_kind: as JAX names it, such as `TPU v5 lite`."""

    platform: str
    device_kind: str


def current_target() -> Target:
    """Returns the devices of the mesh in force (`jax.set_mesh`), else the default backend's.

    With a mesh of described devices (`launch.preflight`) a machine without accelerator thus selects
    and compiles what the accelerator would run. The target is known while tracing: unlike
    `jax.lax.platform_dependent`, nothing is traced for other platforms, and a backward pass never
    merges the residuals of several implementations.
    """
    described = jax.sharding.get_abstract_mesh().abstract_device
    if described is not None:
        return Target(_family(described.platform), described.device_kind)
    return Target(_family(jax.default_backend()), jax.devices()[0].device_kind)


def _family(platform: str) -> str:
    return "gpu" if platform in ("cuda", "rocm") else platform
