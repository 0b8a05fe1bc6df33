"""Orbax checkpoints of a training stage: state, data position and what is needed to resume."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from xcomp_jax.config import ConfigError, ExperimentConfig, StageConfig, to_dict
from xcomp_jax.models.xcomp import Params, abstract_params
from xcomp_jax.processes import tells_of_a_lost_process
from xcomp_jax.training.code_version import code_version
from xcomp_jax.training.lora import merged
from xcomp_jax.training.step import TrainState, init_state, state_shardings


@dataclasses.dataclass(frozen=True)
class Restored:
    """A training state, and the number of examples that all processes together had seen."""

    state: TrainState
    examples_seen: int


class StageCheckpoints:
    """Checkpoints of one stage; writing goes on in the background while training continues.

    Every process of a run makes one, with `folder` on storage they share. A process killed while
    writing leaves an unfinished folder that is never taken for a checkpoint.

    Each holds `state`; `data`, the number of examples seen, which means the same whatever the
    number of processes; and `meta`, the resolved configuration and the versions of the code.
    """

    def __init__(self, folder: Path, config: ExperimentConfig, stage: StageConfig) -> None:
        self._config, self._stage = config, stage
        # Orbax reports every save at INFO and warns about threads that are its own affair.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.keep_checkpoints,
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            ),
            item_names=("state", "data", "meta"),
        )

    @property
    def latest_step(self) -> int | None:
        """Optimiser steps done by the newest complete checkpoint."""
        return self._manager.latest_step()

    def asked_to_stop(self, step: int) -> bool:
        """Whether all processes save at `step` and end, because one of them received SIGTERM.

        To be called by every process at every step. Always False in a run of one process.
        """
        return self._manager.reached_preemption(step)

    def save(self, step: int, state: TrainState) -> None:
        """Returns once the state is copied off the devices."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave({"examples_seen": step * self._stage.batch_size}),
                meta=ocp.args.JsonSave({"config": to_dict(self._config), "code": _code_version()}),
            ),
        )

    def restore(self, step: int, mesh: Mesh) -> Restored:
        """Onto any mesh and number of processes: the shardings of `mesh` decide where arrays go.

        Raises:
            ConfigError: it is damaged.
        """
        target = _target(self._config, self._stage, mesh)
        with _told_if_damaged(Path(self._manager.directory) / str(step)):
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
                ),
            )
        return Restored(restored["state"], restored["data"]["examples_seen"])

    def close(self) -> None:
        """Waits until everything is on disk."""
        with contextlib.closing(self._manager):
            self._manager.wait_until_finished()


@functools.cache
def _code_version() -> dict[str, str]:
    return code_version()


def _target(config: ExperimentConfig, stage: StageConfig, mesh: Mesh) -> TrainState:
    model = config.stage_model(stage)
    shapes = jax.eval_shape(lambda p: init_state(stage, p), abstract_params(model))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_shardings(model, stage, mesh),
    )


@contextlib.contextmanager
def _told_if_damaged(folder: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, OSError) as error:
        if tells_of_a_lost_process(error):
            raise
        said = str(error).partition("\n")[0][:200]
        raise ConfigError(
            f"the checkpoint {folder} is damaged or not of this run ({type(error).__name__}: "
            f"{said}): remove that folder, and the run continues from the one before it"
        ) from error


def newest_params(
    config: ExperimentConfig, workdir: Path, mesh: Mesh
) -> tuple[StageConfig, Params]:
    """Parameters of the newest checkpoint of a run, adapters merged, and the stage that wrote it.

    The run may be at work meanwhile: nothing of it is touched.

    Raises:
        ConfigError: the run has no checkpoint yet, or the newest is damaged.
    """
    for stage in reversed(config.stages):
        folder = workdir / "stages" / stage.name
        if folder.is_dir():
            params = _read_newest(folder, _target(config, stage, mesh).params)
            if params is not None:
                return stage, merged(stage, params)
    raise ConfigError(
        f"{workdir} holds no checkpoint yet (looked in stages/ for "
        f"{[stage.name for stage in config.stages]}): run `xcomp tune` until the first one is saved"
    )


def _read_newest(folder: Path, target: Params) -> Params | None:
    """The parameters alone; optimiser state is neither read nor held."""
    item = {"params": target}
    args = ocp.args.PyTreeRestore(
        item=item,
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
    )
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(
        folder.absolute(), options=options, item_names=("state",)
    ) as manager:
        while (step := manager.latest_step()) is not None:
            try:
                with _told_if_damaged(folder / str(step)):
                    restored = manager.restore(step, args=ocp.args.Composite(state=args))
                return restored["state"]["params"]
            except ConfigError:
                if (folder / str(step)).exists():
                    raise
                manager.reload()  # the run has removed it meanwhile, and has newer ones
    return None
