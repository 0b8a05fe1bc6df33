"""Saves and restores Orbax checkpoints of a training stage."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from pathlib import Path
from types import TracebackType

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from xcomp_jax.config import ExperimentConfig, StageConfig, to_dict
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.processes import is_lost_process_error
from xcomp_jax.training.code_version import code_version
from xcomp_jax.training.damaged_checkpoint import damage_as_config_error
from xcomp_jax.training.step import TrainState, init_state, state_shardings


@dataclasses.dataclass(frozen=True)
class RestoredState:
    """A training state, and the number of examples that all processes together had consumed."""

    state: TrainState
    examples_seen: int


class StageCheckpoints:
    """Checkpoints of one stage, written in the background while training continues.

    Every process of a run opens them, with `folder` on shared storage. A process killed while
    writing leaves an unfinished folder that is never taken for a checkpoint. Use as a context
    manager, which closes them.

    Each checkpoint holds `state`; `data`, the number of examples consumed, which does not depend on
    the number of processes; and `meta`, the resolved configuration and the versions of the code.
    """

    def __init__(self, folder: Path, config: ExperimentConfig, stage: StageConfig) -> None:
        self._config, self._stage = config, stage
        silence_orbax()
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.keep_checkpoints,
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            ),
            item_names=("state", "data", "meta"),
        )

    def __enter__(self) -> StageCheckpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Pending writes need every process; without one of them, waiting would hang.
        if error is None or not is_lost_process_error(error):
            self.close()

    @property
    def latest_step(self) -> int | None:
        """Number of optimizer steps in the newest complete checkpoint."""
        return self._manager.latest_step()

    def should_stop(self, step: int) -> bool:
        """Returns whether all processes must save at `step` and stop, after SIGTERM to one of them.

        Every process must call this at every step. Always False in a run of one process.
        """
        return self._manager.reached_preemption(step)

    def save(self, step: int, state: TrainState) -> None:
        """Starts a save; returns once the state is copied off the devices."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave({"examples_seen": step * self._stage.batch_size}),
                meta=ocp.args.JsonSave({"config": to_dict(self._config), "code": _code_version()}),
            ),
        )

    def restore(self, step: int, mesh: Mesh) -> RestoredState:
        """Restores the checkpoint of `step` onto any mesh and any number of processes.

        Raises:
            ConfigError: the checkpoint is damaged.
        """
        target = abstract_state(self._config, self._stage, mesh)
        with damage_as_config_error(Path(self._manager.directory) / str(step)):
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
                ),
            )
        return RestoredState(restored["state"], restored["data"]["examples_seen"])

    def close(self) -> None:
        """Waits until every checkpoint is on disk."""
        with contextlib.closing(self._manager):
            self._manager.wait_until_finished()


def abstract_state(config: ExperimentConfig, stage: StageConfig, mesh: Mesh) -> TrainState:
    """Returns shapes, dtypes and shardings of the training state of `stage` on `mesh`."""
    model = config.stage_model(stage)
    shapes = jax.eval_shape(lambda p: init_state(stage, p), abstract_params(model))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_shardings(model, stage, mesh),
    )


def silence_orbax() -> None:
    """Hides Orbax's messages about every save, its options and its own threads."""
    logging.getLogger("absl").setLevel(logging.ERROR)


@functools.cache
def _code_version() -> dict[str, str]:
    return code_version()
