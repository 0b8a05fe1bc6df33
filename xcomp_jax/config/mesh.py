"""Resolves -1 in a mesh and in `accumulate_steps` for a number of devices."""

from __future__ import annotations

import dataclasses
import math

from xcomp_jax.config.experiment import ExperimentConfig
from xcomp_jax.config.schema import require
from xcomp_jax.config.training import MeshConfig, StageConfig


def mesh_on(mesh: MeshConfig, devices: int, *, examples: int | None = None) -> MeshConfig:
    """Returns `mesh` with every -1 resolved.

    Args:
        examples: of a micro batch. If fsdp and context are both -1, fsdp gets as many devices as
            divide the examples, and context the rest; None sets no bound.

    Raises:
        ConfigError: the sizes do not multiply to the number of devices.
    """
    sizes = dataclasses.asdict(mesh)
    free = [axis for axis, size in sizes.items() if size == -1]
    rest, remainder = divmod(devices, math.prod(size for size in sizes.values() if size != -1))
    if remainder == 0 and free == ["fsdp", "context"]:
        fsdp = rest if examples is None else math.gcd(rest, max(1, examples // mesh.data))
        sizes.update(fsdp=fsdp, context=rest // fsdp)
    elif remainder == 0 and free:
        sizes[free[0]] = rest
    requested = ", ".join(f"{axis}={size}" for axis, size in dataclasses.asdict(mesh).items())
    require(
        math.prod(sizes.values()) == devices,
        f"mesh {requested} does not fit {devices} device(s): the product must equal that "
        "number, or set one axis to -1",
    )
    return MeshConfig(**sizes)


def on_devices(config: ExperimentConfig, devices: int) -> ExperimentConfig:
    """Returns `config` with the mesh and micro batches resolved for a number of devices.

    Raises:
        ConfigError: see `mesh_on`; or data x fsdp does not divide a batch.
    """
    micro_batches = (stage.batch_size // max(1, stage.accumulate_steps) for stage in config.stages)
    mesh = mesh_on(config.mesh, devices, examples=math.gcd(*micro_batches))
    split = mesh.data * mesh.fsdp

    def resolved(stage: StageConfig) -> StageConfig:
        if stage.accumulate_steps != -1:
            return stage
        require(
            stage.batch_size % split == 0,
            f"stage {stage.name!r}: batch_size={stage.batch_size} cannot be shared by data x fsdp "
            f"= {split}; leave mesh.fsdp and mesh.context -1, or choose another number of devices",
        )
        return dataclasses.replace(stage, accumulate_steps=stage.batch_size // split)

    stages = tuple(resolved(stage) for stage in config.stages)
    return dataclasses.replace(config, mesh=mesh, stages=stages)
