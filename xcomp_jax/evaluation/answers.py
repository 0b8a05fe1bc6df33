"""Reads the answers of a run's rows by the rules of a task; stored scores are not used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.rows import Row
from xcomp_jax.evaluation.scoring import MODES, Reading, Readings


@dataclasses.dataclass(frozen=True)
class Answered:
    """A question with its row, and the answer as each scoring mode reads it."""

    question: Question
    row: Row
    readings: Readings


def read_answers(task: Task, questions: Sequence[Question], rows: Iterable[Row]) -> list[Answered]:
    """Returns the answered questions in the order of `questions`.

    A question whose row holds an error counts as wrong in every mode.

    Raises:
        DataError: no row belongs to a question, two rows answer one, or nothing was generated.
    """
    by_id = _by_id(row for row in rows if row.benchmark == task.name)
    asked = [question for question in questions if question.id in by_id]
    if not asked:
        raise DataError(
            f"none of the {len(by_id):,} rows of {task.name} belongs to a question of the data "
            "folder; pass the folder that the run used"
        )
    if not any(by_id[question.id].answer.strip() for question in asked):
        raise DataError(
            f"nothing was generated for any of {len(asked):,} questions; the first error is "
            f"{next((row.error for row in by_id.values() if row.error), 'none')!r}"
        )
    return [_answered(task, question, by_id[question.id]) for question in asked]


def _answered(task: Task, question: Question, row: Row) -> Answered:
    if row.error:
        return Answered(question, row, dict.fromkeys(MODES, Reading("", 0.0, "empty")))
    return Answered(question, row, task.read(question, row.answer))


def _by_id(rows: Iterable[Row]) -> dict[str, Row]:
    by_id: dict[str, Row] = {}
    for row in rows:
        if row.id in by_id:
            raise DataError(
                f"two rows answer question {row.id}, with other checkpoints, videos or settings "
                f"(keys {by_id[row.id].key} and {row.key}); score the rows of one run"
            )
        by_id[row.id] = row
    return by_id
