"""Suggest changes to a training step that does not fit."""

from __future__ import annotations

from xcomp_jax.config import StageConfig
from xcomp_jax.launch.preflight.estimate import SPARE, Estimate
from xcomp_jax.launch.preflight.machines import GIB


def advice(step: Estimate, stage: StageConfig, mesh_shape: dict[str, int]) -> list[str]:
    """Returns suggestions, the most promising first; an empty list when the step fits.

    Args:
        mesh_shape: devices along each axis.
    """
    if step.fits:
        return []
    lines = []
    if step.spare > SPARE and step.memory and step.memory.needed <= step.capacity_bytes:
        lines.append("compile the whole step, without --quick: this result is extrapolated")
    if not stage.remat:
        lines.append(
            "remat=True: keep only the input of each decoder layer, for a third more operations"
        )
    lines += _smaller_micro_batches(stage, mesh_shape)
    shards = mesh_shape["data"] * mesh_shape["fsdp"]
    if mesh_shape["data"] > 1:
        lines.append(
            f"mesh data=1, fsdp={shards}: shard parameters and optimizer state over more devices"
        )
    if step.memory is not None and step.memory.arguments > 0.5 * step.capacity_bytes:
        lines.append(
            f"more devices: state and batch alone take {step.memory.arguments / GIB:.1f} GiB of "
            "each"
        )
    lines.append("fewer frames (--frames), or a smaller batch_size")
    return lines


def _smaller_micro_batches(stage: StageConfig, mesh_shape: dict[str, int]) -> list[str]:
    shards = mesh_shape["data"] * mesh_shape["fsdp"]
    micro_batch = stage.batch_size // stage.accumulate_steps
    # Every device along the batch axes needs an example.
    steps = [
        n
        for n in range(stage.accumulate_steps + 1, stage.batch_size + 1)
        if stage.batch_size % n == 0 and stage.batch_size // n % shards == 0
    ]
    if steps:
        return [
            f"accumulate_steps={steps[0]} instead of {stage.accumulate_steps}: "
            f"{stage.batch_size // steps[0] // shards} instead of {micro_batch // shards} "
            "example(s) per device at a time"
        ]
    if shards == 1:
        return []
    return [
        f"mesh context={2 * mesh_shape.get('context', 1)}, fsdp={mesh_shape['fsdp'] // 2 or 1} "
        f"with accumulate_steps={2 * stage.accumulate_steps}: each device already has a single "
        "example, so let two devices share the tokens of one video"
    ]
