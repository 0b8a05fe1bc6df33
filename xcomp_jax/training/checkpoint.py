"""Saves and restores Orbax checkpoints of a training stage."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from xcomp_jax.config import ConfigError, ExperimentConfig, StageConfig, to_dict
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.processes import is_lost_process_error, on_first
from xcomp_jax.training.checkpoint_checksums import (
    CHECKSUMS_ITEM,
    ChecksumHandler,
    ChecksumSave,
    checkpoint_damage,
    has_checksums,
)
from xcomp_jax.training.code_version import code_version
from xcomp_jax.training.damaged_checkpoint import damage_as_config_error, ignore_late_transfers
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
    the number of processes; `meta`, the resolved configuration and the versions of the code; and
    `checksums` of all files of the others.
    """

    def __init__(self, folder: Path, config: ExperimentConfig, stage: StageConfig) -> None:
        self._config, self._stage = config, stage
        silence_orbax()
        self._folder = folder.resolve()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.keep_checkpoints,
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            ),
            handler_registry=_handlers(),
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

    def newest_intact_step(self, warn: Callable[[str], None]) -> int:
        """Returns the step of the newest checkpoint whose files match its checksums, 0 if none.

        Newer ones, which are damaged, are renamed to damaged-STEP. Every process calls this.

        Args:
            warn: receives one line per damaged checkpoint, and one for a checkpoint of an
                earlier version, which has no checksums and is not verified.

        Raises:
            ConfigError: all checkpoints are damaged.
        """
        while (step := self._manager.latest_step()) is not None:
            oldest = min(self._manager.all_steps())
            usable, warning = on_first(functools.partial(self._verify, step, oldest))
            if warning is not None:
                warn(warning)
            if usable:
                return step
            self._manager.reload()
        return 0

    def _verify(self, step: int, oldest: int) -> tuple[bool, str | None]:
        """Renames the checkpoint of `step` if it is damaged; returns if it is usable, a warning."""
        folder = self._folder / str(step)
        if not has_checksums(folder):
            return True, f"{folder}: an earlier version wrote this checkpoint; it is not verified"
        damage = checkpoint_damage(folder)
        if damage is None:
            return True, None
        if step == oldest:
            raise ConfigError(
                f"the checkpoint {folder} is damaged: {damage}. There is no older one; remove that "
                "folder to train the stage from its start"
            )
        kept = _unused(folder.with_name(f"damaged-{step}"))
        folder.rename(kept)
        return False, (
            f"the checkpoint {folder} is damaged: {damage}. It is now {kept.name} and can be "
            "deleted; the run continues from the checkpoint before it"
        )

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
                **{CHECKSUMS_ITEM: ChecksumSave()},
            ),
        )

    def restore(self, step: int, mesh: Mesh) -> RestoredState:
        """Restores the checkpoint of `step` onto any mesh and any number of processes.

        Raises:
            ConfigError: the checkpoint is damaged.
        """
        target = abstract_state(self._config, self._stage, mesh)
        with damage_as_config_error(self._folder / str(step)):
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


def _handlers() -> ocp.handlers.CheckpointHandlerRegistry:
    """Returns the handlers of the items in the order in which Orbax completes these."""
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    state, data = ocp.StandardCheckpointHandler(), ocp.JsonCheckpointHandler()
    registry.add("state", ocp.args.StandardSave, state)
    registry.add("state", ocp.args.StandardRestore, state)
    registry.add("data", ocp.args.JsonSave, data)
    registry.add("data", ocp.args.JsonRestore, data)
    registry.add("meta", ocp.args.JsonSave, ocp.JsonCheckpointHandler())
    # Last, because it hashes the files of the others.
    registry.add(CHECKSUMS_ITEM, ChecksumSave, ChecksumHandler())
    return registry


def abstract_state(config: ExperimentConfig, stage: StageConfig, mesh: Mesh) -> TrainState:
    """Returns shapes, dtypes and shardings of the training state of `stage` on `mesh`."""
    model = config.stage_model(stage)
    shapes = jax.eval_shape(lambda p: init_state(stage, p), abstract_params(model))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_shardings(model, stage, mesh),
    )


def delete_unfinished(stages: Path) -> None:
    """Deletes what a failed save has left in the folders of the stages, if anything."""
    for folder in stages.glob("*/*.orbax-checkpoint-tmp*"):
        shutil.rmtree(folder, ignore_errors=True)


def silence_orbax() -> None:
    """Hides the log of Orbax; what matters there is also raised as an exception."""
    ignore_late_transfers()
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _unused(path: Path) -> Path:
    """Returns `path`, or the first of path.1, path.2, ... that does not exist."""
    candidates = (path, *(path.with_name(f"{path.name}.{i}") for i in range(1, 1000)))
    return next(candidate for candidate in candidates if not candidate.exists())


@functools.cache
def _code_version() -> dict[str, str]:
    return code_version()
