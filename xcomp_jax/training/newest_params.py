"""Reads the parameters of a run's newest checkpoint, also while the run continues."""

from __future__ import annotations

from pathlib import Path

import orbax.checkpoint as ocp
from jax.sharding import Mesh

from xcomp_jax.config import ConfigError, ExperimentConfig, StageConfig
from xcomp_jax.models.xcomp import Params
from xcomp_jax.training.checkpoint import abstract_state, silence_orbax
from xcomp_jax.training.checkpoint_checksums import checkpoint_damage, has_checksums
from xcomp_jax.training.damaged_checkpoint import damage_as_config_error, damaged_checkpoint
from xcomp_jax.training.lora import merge_adapters


def newest_params(
    config: ExperimentConfig, workdir: Path, mesh: Mesh
) -> tuple[StageConfig, Params]:
    """Returns the stage of the newest checkpoint and its parameters, with adapters merged.

    Only reads, so the run may be training meanwhile.

    Raises:
        ConfigError: the run has no checkpoint yet, or the newest is damaged.
    """
    silence_orbax()
    for stage in reversed(config.stages):
        folder = workdir / "stages" / stage.name
        if folder.is_dir():
            params = _read_newest(folder, abstract_state(config, stage, mesh).params)
            if params is not None:
                return stage, merge_adapters(stage, params)
    raise ConfigError(
        f"{workdir} holds no checkpoint yet (searched stages/ for "
        f"{[stage.name for stage in config.stages]}); run `xcomp tune` until the first one is saved"
    )


def _read_newest(folder: Path, target: Params) -> Params | None:
    """Returns the parameters without reading the optimizer state, None without a checkpoint."""
    item = {"params": target}
    args = ocp.args.PyTreeRestore(
        item=item,
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
    )
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder.resolve(), options=options, item_names=("state",)) as manager:
        while (step := manager.latest_step()) is not None:
            checkpoint = folder / str(step)
            try:
                if has_checksums(checkpoint) and (damage := checkpoint_damage(checkpoint)):
                    raise damaged_checkpoint(checkpoint, damage)
                with damage_as_config_error(checkpoint):
                    restored = manager.restore(step, args=ocp.args.Composite(state=args))
                return restored["state"]["params"]
            except ConfigError:
                if checkpoint.exists():
                    raise
                manager.reload()  # the run has deleted this checkpoint and saved newer ones
    return None
