"""Scores the rows of a run and writes its report as Markdown and as a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.evaluation.answers import read_answers
from xcomp_jax.evaluation.check import subtitle_warning
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.hardest import hardest_questions
from xcomp_jax.evaluation.markdown import FIGURE, to_markdown
from xcomp_jax.evaluation.page import to_html
from xcomp_jax.evaluation.protocol import departures, load_protocol
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.question_sets import recognise
from xcomp_jax.evaluation.report import Report, RunInfo
from xcomp_jax.evaluation.rows import Row
from xcomp_jax.evaluation.run_folder import LOCK, RunRecord, latest_rows, rows_of
from xcomp_jax.evaluation.scoring import Mode
from xcomp_jax.evaluation.summary import score_rows
from xcomp_jax.evidence import to_html as evidence_page
from xcomp_jax.files import write_bytes, write_text
from xcomp_jax.token_store.locks import EXCLUSIVE, locked

MARKDOWN, PAGE = "report.md", "report.html"


def build_report(
    task: Task,
    questions: Sequence[Question],
    folder: Path,
    record: RunRecord,
    data: Path | None = None,
) -> Report:
    """Scores the rows in a run's folder; no model is needed.

    Args:
        data: data folder (default: that of the run).

    Raises:
        DataError: there are no rows, or nothing was generated.
    """
    rows = latest_rows(rows_of(folder).values())
    if not rows:
        raise DataError(f"{folder} has no rows; no question was asked")
    data = data or Path(record.data)
    summary = score_rows(task, questions, rows)
    if record.protocol.subtitles and (warning := subtitle_warning(data, questions)):
        summary = dataclasses.replace(summary, warnings=(warning, *summary.warnings))
    groups = summary.modes[record.protocol.headline].groups
    return Report(
        task=task,
        figure=_figure(task, questions, rows, record.protocol.headline),
        hardest=hardest_questions(
            task,
            read_answers(task, questions, rows),
            groups[task.macro_over],
            folder,
            data,
            record.protocol,
        ),
        summary=summary,
        protocol=record.protocol,
        departures=departures(record.protocol, load_protocol(record.benchmark)),
        info=RunInfo(
            command=record.command,
            checkpoint=record.checkpoint,
            checkpoint_hash=record.checkpoint_hash,
            question_set=recognise(task.name, questions).text,
            version=record.version,
            devices=record.devices,
        ),
    )


def _figure(
    task: Task, questions: Sequence[Question], rows: Sequence[Row], mode: Mode
) -> bytes | None:
    """Draws the heat map of a needle benchmark."""
    if not questions[0].needles:
        return None
    # matplotlib takes a second to import, and most benchmarks draw nothing.
    from xcomp_jax.evaluation.haystack.heat_map import heat_map

    answered = read_answers(task, questions, rows)
    _, rows_by = task.report_by
    return heat_map(answered, rows_by, mode, f"{task.title}, share of right answers")


def write_report(folder: Path, report: Report) -> None:
    """Writes report.md, report.html, evidence pages and the picture, if any.

    Processes of one run take turns.
    """
    with locked(folder / LOCK, EXCLUSIVE):
        if report.figure is not None:
            write_bytes(folder / FIGURE, report.figure)
        for entry in report.hardest:
            write_text(folder / entry.page, evidence_page(entry.evidence))
        write_text(folder / MARKDOWN, to_markdown(report))
        write_text(folder / PAGE, to_html(report))
