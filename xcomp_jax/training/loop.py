"""One stage of training, from the newest checkpoint to its last step."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from tqdm import tqdm

from xcomp_jax.config import ExperimentConfig, StageConfig
from xcomp_jax.data.dataset import PreparedDataset
from xcomp_jax.data.pipeline import train_batches
from xcomp_jax.models.xcomp import Params
from xcomp_jax.sharding import BATCH
from xcomp_jax.training.checkpoint import StageCheckpoints
from xcomp_jax.training.metrics import MetricsLog
from xcomp_jax.training.step import TrainState, init_state, make_train_step, state_shardings


class NonFiniteLossError(ValueError):
    """Training left the numbers: the message names stage, step and values."""


def run_stage(
    config: ExperimentConfig,
    stage: StageConfig,
    params: Params,
    dataset: PreparedDataset,
    mesh: Mesh,
    workdir: Path,
    *,
    progress: bool = True,
) -> Params:
    """Trains `stage.num_steps` steps and returns the parameters after the last.

    Started again after any interruption, it continues from its newest checkpoint and ends with the
    same parameters bit for bit: batches are a function of the step, and no randomness is left.

    Args:
        params: where the stage starts from; not used when it can resume.

    Raises:
        NonFiniteLossError: the loss or the gradient norm is no longer finite.
    """
    model = config.stage_model(stage)
    number = config.stages.index(stage)
    checkpoints = StageCheckpoints(workdir / "stages" / stage.name, config, stage)
    batches = train_batches(
        dataset,
        batch_size=stage.batch_size,
        seed=config.seed + number,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    start = checkpoints.latest_step or 0
    if start:
        restored = checkpoints.restore(start, mesh)
        state = restored.state
        batches.set_state(restored.data)
    else:
        state = jax.device_put(init_state(stage, params), state_shardings(model, stage, mesh))
    log = MetricsLog(workdir / "metrics.jsonl", stage=stage.name, resume_step=start)
    step_fn = make_train_step(model, stage, mesh)
    batch_sharding = NamedSharding(mesh, BATCH)
    waiting: tuple[int, dict[str, Any], float] | None = None
    bar = tqdm(
        total=stage.num_steps, initial=start, desc=stage.name, unit="step", disable=not progress
    )

    def report(step: int, metrics: dict[str, Any], began: float) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            raise NonFiniteLossError(
                f"stage {stage.name!r}, step {step}: loss={values['loss']}, "
                f"grad_norm={values['grad_norm']}. Earlier checkpoints are untouched; use a lower "
                "learning_rate or max_grad_norm for that stage, in a workdir of its own"
            )
        log.write(step, {**values, "seconds": round(time.perf_counter() - began, 4)}.items())
        bar.update()
        bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)

    try:
        for step in range(start + 1, stage.num_steps + 1):
            began = time.perf_counter()
            batch = {
                name: jax.make_array_from_process_local_data(batch_sharding, value)
                for name, value in next(batches).items()
            }
            state, metrics = step_fn(state, batch)
            # Read the step before only now, so that the device is never idle for a printout.
            if waiting is not None:
                report(*waiting)
            waiting = (step, metrics, began)
            if step % config.save_every_steps == 0 or step == stage.num_steps:
                report(*waiting)
                waiting = None
                log.flush()
                checkpoints.save(step, state, batches.get_state())
    finally:
        bar.close()
        log.close()
        checkpoints.close()
    return _finished(state)


def _finished(state: TrainState) -> Params:
    return jax.block_until_ready(state.params)
