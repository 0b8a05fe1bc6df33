"""What -1 stands for in a mesh and in `accumulate_steps`, once the number of devices is known."""

from __future__ import annotations

import dataclasses
import math

from xcomp_jax.config.experiment import ExperimentConfig
from xcomp_jax.config.schema import require
from xcomp_jax.config.training import MeshConfig, StageConfig


def mesh_on(mesh: MeshConfig, devices: int, *, examples: int | None = None) -> MeshConfig:
    """`mesh` without -1.

    Args:
        examples: of a micro batch. Where fsdp and context are both -1, fsdp takes as many devices
            as can share them and context the rest; None sets no bound.

    Raises:
        ConfigError: the sizes do not multiply to the number of devices.
    """
    sizes = dataclasses.asdict(mesh)
    free = [axis for axis, size in sizes.items() if size == -1]
    rest, left = divmod(devices, math.prod(size for size in sizes.values() if size != -1))
    if left == 0 and free == ["fsdp", "context"]:
        fsdp = rest if examples is None else math.gcd(rest, max(1, examples // mesh.data))
        sizes.update(fsdp=fsdp, context=rest // fsdp)
    elif left == 0 and free:
        sizes[free[0]] = rest
    asked = ", ".join(f"{axis}={size}" for axis, size in dataclasses.asdict(mesh).items())
    require(
        math.prod(sizes.values()) == devices,
        f"mesh {asked} does not fit {devices} device(s): the product must equal that number, or "
        "set one axis to -1",
    )
    return MeshConfig(**sizes)


def on_devices(config: ExperimentConfig, devices: int) -> ExperimentConfig:
    """`config` with mesh and micro batches as that many devices run it: nothing is -1 any more.

    Raises:
        ConfigError: see `mesh_on`; or a batch cannot be shared by data x fsdp as they are named.
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
