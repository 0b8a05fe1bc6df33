"""Resolves the benchmarks of `xcomp evaluate` and `xcomp compare`, and prints their reports."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xcomp_jax.config import DType, ProtocolConfig
    from xcomp_jax.evaluation.grouping import VideoGroup
    from xcomp_jax.evaluation.question import Question, Task
    from xcomp_jax.evaluation.run_folder import RunRecord
    from xcomp_jax.inference.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkRun:
    """One benchmark of a command: its task, settings and data folder.

    Attributes:
        questions: the questions to ask.
        benchmark: all questions that the protocol asks; the report covers those with an answer, so
            that a part asked again does not take the place of the whole.
    """

    name: str
    task: Task
    protocol: ProtocolConfig
    data: Path
    questions: list[Question]
    benchmark: list[Question]

    def dtype(self, options: argparse.Namespace) -> DType | None:
        """Returns the dtype to load the model in: --dtype, else the protocol's."""
        from xcomp_jax.evaluation.prepare_session import requested_dtype

        return options.dtype or requested_dtype(self.protocol)

    def forecast(
        self, session: Session, groups: Sequence[VideoGroup]
    ) -> Callable[[VideoGroup, float], None]:
        """Prints the cost; returns the listener that prints the time left after a few videos."""
        from xcomp_jax.evaluation.forecast import forecast_cost, group_operations
        from xcomp_jax.evaluation.measured_rate import MeasuredRate
        from xcomp_jax.terminal.progress import ProgressBar

        extracted = self.protocol.extracted_frames
        forecast = forecast_cost(session, groups, self.data, extracted_frames=extracted)
        print(f"{self.name}: {forecast.text}", file=sys.stderr)
        rate = MeasuredRate(
            len(groups),
            forecast.operations,
            lambda group: group_operations(session, group, self.data, extracted_frames=extracted),
            lambda text: ProgressBar.write(f"{self.name}: {text}", file=sys.stderr),
        )
        return rate.add

    def report(self, folder: Path, record: RunRecord, *, complete: bool) -> None:
        """Writes the report, prints the score on stdout and warnings on stderr.

        Args:
            complete: False if other processes may not have answered any question yet.
        """
        from xcomp_jax.evaluation.report_tables import percent
        from xcomp_jax.evaluation.run_folder import rows_of
        from xcomp_jax.evaluation.write_report import PAGE, build_report, write_report

        rows = rows_of(folder)
        if not complete and not rows:
            print(f"{self.name}: this part has no videos", file=sys.stderr)
            return
        covered = {question.id for question in self.questions} | {row.id for row in rows.values()}
        questions = [question for question in self.benchmark if question.id in covered]
        report = build_report(self.task, questions, folder, record, self.data)
        write_report(folder, report)
        estimate = report.headline.estimate
        interval = f"{percent(estimate.interval.low)} to {percent(estimate.interval.high)}"
        for warning in report.summary.warnings:
            print(f"{self.name}: warning: {warning}", file=sys.stderr)
        print(
            f"{self.name}: {percent(estimate.mean)} ({interval}), {estimate.questions:,} "
            f"questions; {folder / PAGE}"
        )


def requested_runs(options: argparse.Namespace) -> list[BenchmarkRun]:
    """Loads protocols and questions of all benchmarks, before any model is loaded.

    Raises:
        ValueError: unknown benchmark or question, wrong data folder, or invalid settings.
    """
    from xcomp_jax.evaluation.check import subtitle_warning
    from xcomp_jax.evaluation.errors import DataError
    from xcomp_jax.evaluation.grouping import choose_questions
    from xcomp_jax.evaluation.prepare_session import require_supported
    from xcomp_jax.evaluation.protocol import load_protocol

    runs, names = [], benchmark_names(options.benchmark)
    for name in names:
        task = _task_of(name)
        protocol = _with_options(load_protocol(name, options.protocol or "published"), options)
        data = data_folder(options.data, task, names)
        benchmark = _questions(task, data, protocol)
        try:
            questions = choose_questions(benchmark, limit=options.limit, ids=options.ids or ())
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        if protocol.subtitles and (warning := subtitle_warning(data, questions)):
            print(f"{name}: warning: {warning}", file=sys.stderr)
        run = BenchmarkRun(
            name=name,
            task=task,
            protocol=protocol,
            data=data,
            questions=questions,
            benchmark=benchmark,
        )
        require_supported(protocol, run.questions)
        runs.append(run)
    return runs


def score_runs(options: argparse.Namespace) -> int:
    """Scores the rows of `--score-only RUN` again and writes new reports."""
    from xcomp_jax.evaluation.run_folder import benchmark_folders, read_record

    folders = benchmark_folders(options.score_only.expanduser())
    names = list(folders) if options.benchmark is None else benchmark_names(options.benchmark)
    for name in names:
        folder = chosen_folder(folders, name, options.score_only)
        record = read_record(folder)
        task, data = _task_of(name), Path(record.data)
        if options.data is not None:
            data = data_folder(options.data, task, names)
        questions = _questions(task, data, record.protocol)
        run = BenchmarkRun(
            name=name,
            task=task,
            protocol=record.protocol,
            data=data,
            questions=questions,
            benchmark=questions,
        )
        run.report(folder, record, complete=True)
    return 0


def benchmark_names(text: str) -> list[str]:
    """Splits "mlvu,videomme" at its commas."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def data_folder(folder: Path, task: Task, names: Sequence[str]) -> Path:
    """Returns the data folder of a task: `--data`, or one per task in it for several benchmarks."""
    folder = folder.expanduser()
    return folder if len(names) == 1 else folder / task.name


def chosen_folder(folders: dict[str, Path], name: str, run: Path) -> Path:
    """Returns the folder of a benchmark of a run.

    Raises:
        ValueError: the run lacks it.
    """
    if name not in folders:
        raise ValueError(f"{run} has no rows of {name}; it has {', '.join(folders)}")
    return folders[name]


def _task_of(name: str) -> Task:
    from xcomp_jax.evaluation.tasks import task_named

    return task_named(name.removesuffix("_subtitles"))


def _questions(task: Task, data: Path, protocol: ProtocolConfig) -> list[Question]:
    from xcomp_jax.evaluation.check import fitting, in_subset

    return fitting(in_subset(task.load(data), protocol.subset), protocol.sampling.max_frames)


def _with_options(protocol: ProtocolConfig, options: argparse.Namespace) -> ProtocolConfig:
    """Applies --frames, --select and --repeats."""
    from xcomp_jax.config import SelectionConfig

    changes: dict[str, Any] = {}
    if options.frames is not None:
        sampling = protocol.sampling
        changes["sampling"] = dataclasses.replace(
            sampling,
            max_frames=options.frames,
            min_frames=min(sampling.min_frames, options.frames),
        )
    selection = protocol.selection
    if options.select == "all":
        selection = None
    elif options.select is not None:
        # An explicit number applies to videos of any length, as in xcomp ask.
        selection = dataclasses.replace(
            selection or SelectionConfig(), select=options.select, min_frames=0
        )
    if options.repeats is not None:
        if selection is None:
            raise ValueError("--repeats has no effect without frame selection; add --select K")
        selection = dataclasses.replace(selection, repeats=options.repeats)
    return dataclasses.replace(protocol, selection=selection, **changes)
