"""Dispatches the steps of a training stage and does what is due after each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from jax.sharding import Mesh

from xcomp_jax.config import ExperimentConfig, StageConfig
from xcomp_jax.data.pipeline import Batch
from xcomp_jax.models.xcomp import Params
from xcomp_jax.sharding import global_batch
from xcomp_jax.training.benchmarks import due_benchmarks, is_due
from xcomp_jax.training.checkpoint import StageCheckpoints
from xcomp_jax.training.step import TrainState, make_train_step
from xcomp_jax.training.step_report import PendingStep, StepReport
from xcomp_jax.training.stopping import Stopped, StopRequest
from xcomp_jax.training.throughput import WorkCounter


class StageLoop:
    """Runs single steps of a stage, with recording, evaluation, saving and stopping.

    Args:
        evaluate: evaluates the parameters of a step and logs the result.
        run_benchmarks: runs the benchmarks that are due after a step; returns False if SIGTERM
            ended them early.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        stage: StageConfig,
        mesh: Mesh,
        *,
        checkpoints: StageCheckpoints,
        report: StepReport,
        evaluate: Callable[[int, Params], None],
        run_benchmarks: Callable[[int, Params], bool],
    ) -> None:
        self._config, self._stage, self._mesh = config, stage, mesh
        self._checkpoints, self._report, self._evaluate = checkpoints, report, evaluate
        self._run_benchmarks = run_benchmarks
        model = config.stage_model(stage)
        self._step_fn = make_train_step(model, stage, mesh)
        self._count_work = WorkCounter(model, stage, mesh)
        self._unrecorded: PendingStep | None = None

    def dispatch(
        self, step: int, state: TrainState, batches: Iterator[Batch]
    ) -> tuple[TrainState, PendingStep]:
        """Starts a step, donating `state`; returns the new state and the step's metrics."""
        began = time.perf_counter()
        local = next(batches)
        data_seconds = time.perf_counter() - began
        state, metrics = self._step_fn(state, global_batch(self._mesh, local))
        return state, PendingStep(step, metrics, self._count_work(local), local, data_seconds)

    def finish(self, pending: PendingStep, state: TrainState, stop: StopRequest) -> None:
        """Records the step before `pending`, then evaluates, saves or stops when that is due.

        A state whose benchmarks were interrupted is saved, so that they can be finished.

        Raises:
            NonFiniteLossError: the loss or the gradient norm is not finite.
            Stopped: after SIGTERM, once the state is saved.
        """
        # Metrics are read one step late, so that the devices never wait for the host.
        self._record_previous(pending)
        step = pending.step
        stopping = self._checkpoints.should_stop(step) or stop.received
        # A stop does not wait for an evaluation.
        evaluating = is_due(self._config.evaluate_every_steps, step) and not stopping
        benchmarking = bool(due_benchmarks(self._config, step)) and not stopping
        last = step == self._stage.num_steps
        saving = stopping or last or is_due(self._config.save_every_steps, step)
        if not (evaluating or benchmarking or saving):
            return
        self._record_previous(None)
        if evaluating:
            self._evaluate(step, state.params)
        if benchmarking and not self._run_benchmarks(step, state.params):
            stopping = True
        if saving or stopping:
            self._report.flush()
            self._checkpoints.save(step, state)
        if stopping:
            raise Stopped(
                f"stopped by SIGTERM after step {step} of stage {self._stage.name!r}, which is "
                "saved; the same command continues"
            )
        self._report.restart_clock()

    def finish_benchmarks(self, step: int, state: TrainState) -> None:
        """Runs the benchmarks of a resumed state that an interruption has left unfinished.

        Raises:
            Stopped: after SIGTERM; the state is saved already.
        """
        if due_benchmarks(self._config, step) and not self._run_benchmarks(step, state.params):
            raise Stopped("stopped by SIGTERM in a benchmark; the same command continues")

    def _record_previous(self, pending: PendingStep | None) -> None:
        """Records the previous step, if it is not yet recorded, and keeps `pending` for later."""
        if self._unrecorded is not None:
            self._report.record(self._unrecorded)
        self._unrecorded = pending
