"""Runs the benchmarks of a configuration on the parameters in training, and logs their scores.

The rows of a benchmark stay in `benchmarks/STAGE-STEP-HASH/` of the workdir, so that an interrupted
evaluation continues where it stopped, and `xcomp compare` and `xcomp evaluate --score-only` read
them. Nothing of training depends on an evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from jax.sharding import Mesh

from xcomp_jax.config import BenchmarkConfig, ExperimentConfig, ModelConfig, StageConfig
from xcomp_jax.models.xcomp import Params
from xcomp_jax.processes import is_first, on_first
from xcomp_jax.training.metrics import MetricsLog, read_metrics
from xcomp_jax.training.run import Run

LOG = "benchmarks.jsonl"
FOLDER = "benchmarks"


@dataclasses.dataclass(frozen=True)
class BenchmarkScore:
    """Score of a benchmark as a share, with its 95 % interval."""

    score: float
    low: float
    high: float
    questions: int


class BenchmarkRunner(Protocol):
    """Asks the questions of a benchmark; `evaluation.in_training` implements it."""

    def check(self, benchmark: BenchmarkConfig, model: ModelConfig) -> None:
        """Raises a ValueError if the benchmark cannot run, such as without its data."""

    def run(
        self,
        benchmark: BenchmarkConfig,
        model: ModelConfig,
        params: Params,
        tokenizer: Any,
        folder: Path,
        *,
        mesh: Mesh,
        should_stop: Callable[[], bool],
        progress: bool,
    ) -> BenchmarkScore | None:
        """Answers the questions that have no row yet; every process of a run calls it.

        Args:
            params: parameters on `mesh`; they are not changed.
            folder: folder of all evaluations; parameters of another hash get another one inside.
                Its name begins with that of `folder`.
            should_stop: ends the evaluation after the current video.

        Returns:
            None if it was ended early.

        Raises:
            ValueError: nothing was generated.
        """


def is_due(every: int | None, step: int) -> bool:
    """Returns whether `step` completes an interval; None never does."""
    return every is not None and step > 0 and step % every == 0


def due_benchmarks(config: ExperimentConfig, step: int) -> list[BenchmarkConfig]:
    """Returns the benchmarks that run after a step of any stage."""
    return [benchmark for benchmark in config.benchmarks if is_due(benchmark.every_steps, step)]


@dataclasses.dataclass(frozen=True)
class Benchmarks:
    """Runs benchmarks during the stages of a run and after the last one."""

    run: Run
    tokenizer: Any
    runner: BenchmarkRunner

    def open_stage(self, stage: StageConfig, resume_step: int) -> None:
        """Removes the scores of steps that the resumed stage repeats."""
        if is_first():
            self._log(stage, resume_step).close()

    def during(self, stage: StageConfig, step: int, params: Params) -> bool:
        """Runs the benchmarks that are due after a step; returns False if SIGTERM ended them."""
        return self._run_all(due_benchmarks(self.run.config, step), stage, step, params)

    def after(self, stage: StageConfig, params: Params) -> None:
        """Runs all benchmarks on the final parameters."""
        self._run_all(self.run.config.benchmarks, stage, stage.num_steps, params)

    def _run_all(
        self, benchmarks: Sequence[BenchmarkConfig], stage: StageConfig, step: int, params: Params
    ) -> bool:
        for benchmark in benchmarks:
            logged = on_first(lambda: read_metrics(self.run.workdir / LOG))
            names = [
                line["benchmark"]
                for line in logged
                if (line["stage"], line["step"]) == (stage.name, step)
            ]
            if benchmark.name not in names and not self._run_one(benchmark, stage, step, params):
                return False
        return True

    def _run_one(
        self, benchmark: BenchmarkConfig, stage: StageConfig, step: int, params: Params
    ) -> bool:
        run, place = self.run, f"after step {step} of stage {stage.name!r}"
        run.observation.announce(f"Benchmark {benchmark.name} {place}")
        try:
            score = self.runner.run(
                benchmark,
                run.config.stage_model(stage),
                params,
                self.tokenizer,
                run.workdir / FOLDER / f"{stage.name}-{step}",
                mesh=run.mesh,
                should_stop=lambda: run.stop.received,
                progress=run.observation.progress,
            )
        except ValueError as error:
            # Training must survive a data folder that is gone.
            run.observation.warn(f"benchmark {benchmark.name} {place} has no score: {error}")
            return True
        if score is None:
            return False
        if is_first():
            log = self._log(stage, step)
            log.write(step, [("benchmark", benchmark.name), *dataclasses.asdict(score).items()])
            log.close()
            for writer in run.writers:
                writer.write(stage.name, step, {f"benchmark_{benchmark.name}": score.score})
        return True

    def _log(self, stage: StageConfig, step: int) -> MetricsLog:
        return MetricsLog(self.run.workdir / LOG, stage=stage.name, resume_step=step)
