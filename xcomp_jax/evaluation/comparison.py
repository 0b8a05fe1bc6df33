"""Compares two runs on the questions that both have answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from xcomp_jax.evaluation.answers import read_answers
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Metric, Question, Task
from xcomp_jax.evaluation.rows import Row
from xcomp_jax.evaluation.scoring import Mode
from xcomp_jax.evaluation.statistics import Comparison, compare


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Difference of two runs, second minus first.

    only_first_answered, only_second_answered: questions with a row in one run alone; left out.
    other_prompts: common questions that the runs asked with different prompts.
    failed: common questions that failed in a run, where they count as wrong.
    """

    mode: Mode
    metric: Metric
    questions: int
    result: Comparison
    only_first_answered: int
    only_second_answered: int
    other_prompts: int
    failed: int

    @property
    def text(self) -> str:
        """Several lines for a terminal, in points."""
        result, points = self.result, 100 * self.result.difference
        higher, test = "right in one run alone", "McNemar"
        if self.metric == "grounding":  # the same test, of scores between 0 and 1
            higher, test = "larger overlap", "sign test"
        interval = f"{100 * result.interval.low:+.1f} to {100 * result.interval.high:+.1f}"
        lines = [
            f"difference {points:+.1f} points ({interval}, 95 % by paired bootstrap over videos), "
            f"error by video {100 * result.clustered_error:.2f}, {self.questions:,} questions",
            f"{higher}: {result.only_first:,} in the first, {result.only_second:,} "
            f"in the second; {test} p = {result.mcnemar_p:.3g} (takes questions as independent)",
        ]
        if left_out := self.only_first_answered + self.only_second_answered:
            lines.append(f"left out: {left_out:,} questions that only one run has answered")
        if self.failed:
            lines.append(f"warning: {self.failed:,} questions failed in a run and count as wrong")
        if self.other_prompts:
            lines.append(f"warning: {self.other_prompts:,} questions have different prompts")
        return "\n".join(lines)


def compare_runs(
    task: Task,
    questions: Sequence[Question],
    first: Iterable[Row],
    second: Iterable[Row],
    mode: Mode = "strict",
) -> RunComparison:
    """Scores both runs anew and compares them question by question.

    The default mode counts every question in both runs. Questions that the mode leaves out of
    either run's mean are left out of both.

    Raises:
        DataError: the runs have no question in common.
    """
    first_by_id, second_by_id = (
        {
            entry.question.id: entry
            for entry in read_answers(task, questions, rows)
            if entry.readings[mode].counted
        }
        for rows in (first, second)
    )
    pairs = [
        (entry, second_by_id[name]) for name, entry in first_by_id.items() if name in second_by_id
    ]
    if not pairs:
        raise DataError(f"the runs have no question of {task.name} in common")
    return RunComparison(
        mode=mode,
        metric=task.metric,
        questions=len(pairs),
        result=compare(
            [entry.readings[mode].score for entry, _ in pairs],
            [entry.readings[mode].score for _, entry in pairs],
            [entry.question.cluster for entry, _ in pairs],
        ),
        only_first_answered=len(first_by_id) - len(pairs),
        only_second_answered=len(second_by_id) - len(pairs),
        other_prompts=sum(
            a.row.prompt_hash != b.row.prompt_hash
            for a, b in pairs
            if not (a.row.error or b.row.error)  # whose rows have no prompt
        ),
        failed=sum(bool(a.row.error or b.row.error) for a, b in pairs),
    )
