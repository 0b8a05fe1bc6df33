"""Runs one training stage, from its newest checkpoint to its last step."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import jax

from xcomp_jax.config import ConfigError, StageConfig
from xcomp_jax.data.pipeline import Batch, train_batches
from xcomp_jax.data.training_set import TrainingSet
from xcomp_jax.models.xcomp import Params, abstract_params
from xcomp_jax.processes import is_first
from xcomp_jax.sharding import batch_share, parameter_shardings
from xcomp_jax.training.benchmarks import Benchmarks
from xcomp_jax.training.checkpoint import StageCheckpoints
from xcomp_jax.training.evaluate import Evaluation
from xcomp_jax.training.lora import merge_adapters
from xcomp_jax.training.metrics import MetricsLog
from xcomp_jax.training.profiler import Profiler
from xcomp_jax.training.run import Run
from xcomp_jax.training.stage_loop import StageLoop
from xcomp_jax.training.step import TrainState, init_state, state_shardings
from xcomp_jax.training.step_report import StepReport


def run_stage(
    run: Run,
    stage: StageConfig,
    params: Params,
    dataset: TrainingSet,
    *,
    evaluate: Callable[[StageConfig, Params], Evaluation],
    benchmarks: Benchmarks | None = None,
) -> Params:
    """Trains `stage.num_steps` steps and returns the parameters after the last.

    After an interruption, the stage resumes from its newest checkpoint. On the same mesh it then
    ends with bitwise equal parameters, since batches depend only on the step and nothing is random.
    On another mesh or number of processes it continues with the same rows.

    Args:
        params: initial parameters, donated to the stage; not used when it resumes.
        evaluate: answers the held-out questions, for `evaluate_every_steps`.
        benchmarks: runs the benchmarks of the configuration.

    Raises:
        NonFiniteLossError: the loss or the gradient norm is not finite.
        Stopped: after SIGTERM, once the state is saved.
    """
    checkpoints = StageCheckpoints(run.workdir / "stages" / stage.name, run.config, stage)
    resume_step = checkpoints.newest_intact_step(run.observation.warn)
    _announce(run, stage, resume_step)
    state, examples_seen = _initial_state(run, stage, params, checkpoints, resume_step)
    del params
    batches = _training_batches(run, stage, dataset, examples_seen)
    profile = run.observation.profile if is_first() else None
    profiler = Profiler(profile, run.workdir / "profile" / stage.name)
    report = _step_report(run, stage, resume_step, dataset.row_id)
    loop = _stage_loop(run, stage, checkpoints, report, evaluate, benchmarks)
    with (
        contextlib.closing(report),
        contextlib.closing(profiler),
        checkpoints,
        run.stop.deferred() as stop,
    ):
        if benchmarks is not None:
            benchmarks.open_stage(stage, resume_step)
            loop.finish_benchmarks(resume_step, state)
        for step in range(resume_step + 1, stage.num_steps + 1):
            profiler.before(step)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state, pending = loop.dispatch(step, state, batches)
            profiler.after(step, pending.metrics)
            loop.finish(pending, state, stop)
    return jax.block_until_ready(_model_params(run, stage, state.params))


def _stage_loop(
    run: Run,
    stage: StageConfig,
    checkpoints: StageCheckpoints,
    report: StepReport,
    evaluate: Callable[[StageConfig, Params], Evaluation],
    benchmarks: Benchmarks | None,
) -> StageLoop:
    def evaluate_and_log(step: int, learned: Params) -> None:
        evaluation = evaluate(stage, _model_params(run, stage, learned))
        _log_evaluation(run, stage, step, evaluation)

    def run_benchmarks(step: int, learned: Params) -> bool:
        assert benchmarks is not None, "only called for a configuration with benchmarks"
        return benchmarks.during(stage, step, _model_params(run, stage, learned))

    return StageLoop(
        run.config,
        stage,
        run.mesh,
        checkpoints=checkpoints,
        report=report,
        evaluate=evaluate_and_log,
        run_benchmarks=run_benchmarks,
    )


def _announce(run: Run, stage: StageConfig, resume_step: int) -> None:
    number = run.config.stages.index(stage) + 1
    title = f"Stage {stage.name!r} ({number} of {len(run.config.stages)})"
    steps = f"{stage.num_steps} steps of {stage.batch_size} examples"
    if resume_step == stage.num_steps:
        progress = f"finished before, reading its checkpoint of step {resume_step}"
    elif resume_step:
        progress = f"resuming {steps} after step {resume_step}; the first step compiles"
    else:
        progress = f"training {steps}; the first step compiles"
    run.observation.announce(f"{title}: {progress}")


def _initial_state(
    run: Run, stage: StageConfig, params: Params, checkpoints: StageCheckpoints, resume_step: int
) -> tuple[TrainState, int]:
    """Returns the state after `resume_step` steps and the examples consumed by then."""
    if resume_step:
        restored = checkpoints.restore(resume_step, run.mesh)
        return restored.state, restored.examples_seen
    shardings = state_shardings(run.config.stage_model(stage), stage, run.mesh)
    start = jax.jit(functools.partial(init_state, stage), out_shardings=shardings, donate_argnums=0)
    return start(params), 0


def _training_batches(
    run: Run,
    stage: StageConfig,
    dataset: TrainingSet,
    examples_seen: int,
) -> Iterator[Batch]:
    part, parts = batch_share(run.mesh)
    if stage.batch_size % parts:
        raise ConfigError(
            f"stage {stage.name!r}: batch_size={stage.batch_size} is not a multiple of the "
            f"{parts} processes that read different rows"
        )
    return train_batches(
        dataset,
        batch_size=stage.batch_size,
        seed=run.config.seed + run.config.stages.index(stage),
        process_index=part,
        process_count=parts,
        examples_seen=examples_seen,
    )


def _step_report(
    run: Run, stage: StageConfig, resume_step: int, row_id: Callable[[int], str]
) -> StepReport:
    return StepReport(
        stage,
        run.workdir,
        start=resume_step,
        writers=run.writers,
        progress=run.observation.progress,
        row_id=row_id,
    )


def _model_params(run: Run, stage: StageConfig, params: Params) -> Params:
    """Returns the parameters of the model, with adapters merged if the stage trains those."""
    if stage.lora is None:
        return params
    shardings = parameter_shardings(abstract_params(run.config.model), run.mesh)
    merge = jax.jit(functools.partial(merge_adapters, stage), out_shardings=shardings)
    return merge(params)


def _log_evaluation(run: Run, stage: StageConfig, step: int, evaluation: Evaluation) -> None:
    if not is_first():
        return
    values = {"accuracy": evaluation.accuracy, "right": evaluation.right, "asked": evaluation.asked}
    # Opening the log removes the lines of this and later steps, which a kill has undone.
    log = MetricsLog(run.workdir / "evaluations.jsonl", stage=stage.name, resume_step=step - 1)
    log.write(step, values.items())
    log.close()
    for writer in run.writers:
        writer.write(stage.name, step, {"held_out_accuracy": evaluation.accuracy})
