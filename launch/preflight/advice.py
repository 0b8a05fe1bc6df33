"""What to change when a training step does not fit."""

from __future__ import annotations

from xcomp_jax.config import StageConfig
from xcomp_jax.launch.preflight.estimate import SPARE, Estimate
from xcomp_jax.launch.preflight.machines import GIB


def advice(made: Estimate, stage: StageConfig, mesh_shape: dict[str, int]) -> list[str]:
    """Sentences, the most promising first; none when it fits.

    Args:
        mesh_shape: devices along each axis.
    """
    if made.fits:
        return []
    shards = mesh_shape["data"] * mesh_shape["fsdp"]
    micro = stage.batch_size // stage.accumulate_steps
    lines = []
    if made.spare > SPARE and made.memory and made.memory.needed <= made.capacity_bytes:
        lines.append("the whole step, without --stages-only: this form is but an estimate")
    if not stage.remat:
        lines.append("remat=True: keep only the input of each decoder layer, for a third more work")
    # Every device of the batch axes needs an example.
    steps = [
        n
        for n in range(stage.accumulate_steps + 1, stage.batch_size + 1)
        if stage.batch_size % n == 0 and stage.batch_size // n % shards == 0
    ]
    if steps:
        lines.append(
            f"accumulate_steps={steps[0]} instead of {stage.accumulate_steps}: "
            f"{stage.batch_size // steps[0] // shards} instead of {micro // shards} example(s) on "
            "a device at a time"
        )
    elif shards > 1:
        lines.append(
            f"mesh context={2 * mesh_shape.get('context', 1)}, fsdp={mesh_shape['fsdp'] // 2 or 1} "
            f"with accumulate_steps={2 * stage.accumulate_steps}: two devices share one video's "
            "tokens, each already has a single example"
        )
    if mesh_shape["data"] > 1:
        lines.append(
            f"mesh data=1, fsdp={shards}: parameters and optimiser state are split further"
        )
    if made.memory is not None and made.memory.arguments > 0.5 * made.capacity_bytes:
        lines.append(
            f"more devices: state and batch alone take {made.memory.arguments / GIB:.1f} GiB of "
            "each"
        )
    lines.append("fewer frames (--frames), or a batch_size that leaves each device less")
    return lines
