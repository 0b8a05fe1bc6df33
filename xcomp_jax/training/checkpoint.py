"""Orbax checkpoints of a training stage: state, data position and what is needed to resume."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

import xcomp_jax
from xcomp_jax.config import ExperimentConfig, StageConfig, to_dict
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.training.step import TrainState, init_state, state_shardings


@dataclasses.dataclass(frozen=True)
class Restored:
    """A training state, and the iterator state that yields the batch after it."""

    state: TrainState
    data: dict[str, Any]


class StageCheckpoints:
    """Checkpoints of one stage; writing goes on in the background while training continues.

    A process killed while writing leaves an unfinished folder that is never taken for a checkpoint.
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

    def save(self, step: int, state: TrainState, data: dict[str, Any]) -> None:
        """Returns once the state is copied off the devices."""
        meta = {"config": to_dict(self._config), "version": xcomp_jax.__version__}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave(data),
                meta=ocp.args.JsonSave(meta),
            ),
        )

    def restore(self, step: int, mesh: Mesh) -> Restored:
        """Onto any mesh: the shardings of `mesh` decide where arrays go."""
        model = self._config.stage_model(self._stage)
        shapes = jax.eval_shape(lambda p: init_state(self._stage, p), abstract_params(model))
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            state_shardings(model, self._stage, mesh),
        )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
            ),
        )
        return Restored(restored["state"], restored["data"])

    def close(self) -> None:
        """Waits until everything is on disk."""
        with contextlib.closing(self._manager):
            self._manager.wait_until_finished()
