"""One stage of training, from the newest checkpoint to its last step."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from xcomp_jax.config import ConfigError, ExperimentConfig, StageConfig
from xcomp_jax.data.pipeline import Batch, train_batches
from xcomp_jax.data.training_set import TrainingSet
from xcomp_jax.models.xcomp import Params, abstract_params
from xcomp_jax.processes import is_first, tells_of_a_lost_process
from xcomp_jax.sharding import batch_share, global_batch, parameter_shardings
from xcomp_jax.training.checkpoint import StageCheckpoints
from xcomp_jax.training.evaluate import Evaluation
from xcomp_jax.training.lora import merged
from xcomp_jax.training.metrics import MetricsLog
from xcomp_jax.training.observe import Observation, Profiler, Writer
from xcomp_jax.training.step import TrainState, init_state, make_train_step, state_shardings
from xcomp_jax.training.step_report import Dispatched, StepReport
from xcomp_jax.training.stopping import Stopped, StopRequest
from xcomp_jax.training.throughput import WorkCounter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What the stages of a run share. `writers` is empty on all processes but the first."""

    config: ExperimentConfig
    workdir: Path
    mesh: Mesh
    observation: Observation
    stop: StopRequest
    writers: tuple[Writer, ...] = ()


def run_stage(
    run: Run,
    stage: StageConfig,
    params: Params,
    dataset: TrainingSet,
    *,
    evaluate: Callable[[StageConfig, Params], Evaluation],
) -> Params:
    """Trains `stage.num_steps` steps and returns the parameters after the last.

    Started again after any interruption, it continues from its newest checkpoint and ends, on the
    same mesh, with the same parameters bit for bit: batches are a function of the step, and no
    randomness is left. On another mesh or number of processes it continues with the same rows.

    Args:
        params: where the stage starts from; given up to the stage, not used when it can resume.
        evaluate: answers the held-out questions, for `evaluate_every_steps`.

    Raises:
        NonFiniteLossError: the loss or the gradient norm is no longer finite.
        Stopped: after SIGTERM, once the state is saved.
    """
    number = run.config.stages.index(stage)
    checkpoints = StageCheckpoints(run.workdir / "stages" / stage.name, run.config, stage)
    start = checkpoints.latest_step or 0
    state, examples_seen = _start(run, stage, params, checkpoints, start)
    del params
    part, parts = batch_share(run.mesh)
    if stage.batch_size % parts:
        raise ConfigError(
            f"stage {stage.name!r}: batch_size={stage.batch_size} must be a multiple of the "
            f"{parts} processes that read different rows"
        )
    batches = train_batches(
        dataset,
        batch_size=stage.batch_size,
        seed=run.config.seed + number,
        process_index=part,
        process_count=parts,
        examples_seen=examples_seen,
    )
    report = StepReport(
        stage,
        run.workdir,
        start=start,
        writers=run.writers,
        progress=run.observation.progress,
        row_id=dataset.row_id,
    )
    profiler = Profiler(
        run.observation.profile if is_first() else None, run.workdir / "profile" / stage.name
    )
    model = run.config.stage_model(stage)
    step_fn = make_train_step(model, stage, run.mesh)
    count_work = WorkCounter(model, stage, run.mesh)
    waiting: Dispatched | None = None
    try:
        with run.stop.deferred() as stop:
            for step in range(start + 1, stage.num_steps + 1):
                profiler.before(step)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    began = time.perf_counter()
                    local: Batch = next(batches)
                    data_seconds = time.perf_counter() - began
                    state, metrics = step_fn(state, global_batch(run.mesh, local))
                    done = Dispatched(step, metrics, count_work(local), local, data_seconds)
                profiler.after(step, metrics)
                # Read the step before only now: the devices are never idle for a printout.
                if waiting is not None:
                    report.tell(waiting)
                waiting = done
                stopping = checkpoints.asked_to_stop(step) or stop.received
                # Whoever asks to stop does not wait for an evaluation.
                evaluated = _due(run.config.evaluate_every_steps, step) and not stopping
                last = step == stage.num_steps
                if not (evaluated or stopping or last or _due(run.config.save_every_steps, step)):
                    continue
                report.tell(waiting)
                waiting = None
                if evaluated:
                    model_now = _learned_model(run, stage, state.params)
                    _log_evaluation(run, stage, step, evaluate(stage, model_now))
                if stopping or last or _due(run.config.save_every_steps, step):
                    report.flush()
                    checkpoints.save(step, state)
                if stopping:
                    raise Stopped(
                        f"stopped by SIGTERM after step {step} of stage {stage.name!r}, which is "
                        "saved; the same command continues"
                    )
                report.restart_clock()
    except BaseException as error:
        # What is still being written needs all processes.
        if not tells_of_a_lost_process(error):
            checkpoints.close()
        raise
    else:
        checkpoints.close()
    finally:
        profiler.close()
        report.close()
    return jax.block_until_ready(_learned_model(run, stage, state.params))


def _start(
    run: Run, stage: StageConfig, params: Params, checkpoints: StageCheckpoints, step: int
) -> tuple[TrainState, int]:
    """The state after `step` steps and the examples seen by then."""
    if step:
        restored = checkpoints.restore(step, run.mesh)
        return restored.state, restored.examples_seen
    shardings = state_shardings(run.config.stage_model(stage), stage, run.mesh)
    begin = jax.jit(functools.partial(init_state, stage), out_shardings=shardings, donate_argnums=0)
    return begin(params), 0


def _learned_model(run: Run, stage: StageConfig, params: Params) -> Params:
    """With adapters merged, where the stage learns by them."""
    if stage.lora is None:
        return params
    shardings = parameter_shardings(abstract_params(run.config.model), run.mesh)
    return jax.jit(functools.partial(merged, stage), out_shardings=shardings)(params)


def _due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _log_evaluation(run: Run, stage: StageConfig, step: int, evaluation: Evaluation) -> None:
    if not is_first():
        return
    values = {"accuracy": evaluation.accuracy, "right": evaluation.right, "asked": evaluation.asked}
    # Opened anew each time: lines of steps that a kill undid are forgotten by the first.
    log = MetricsLog(run.workdir / "evaluations.jsonl", stage=stage.name, resume_step=step - 1)
    log.write(step, values.items())
    log.close()
    for writer in run.writers:
        writer.write(stage.name, step, {"held_out_accuracy": evaluation.accuracy})
