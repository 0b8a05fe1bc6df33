"""Scores the rows of a run: means, uncertainty, groups, counts and warnings. No model is needed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from xcomp_jax.evaluation.answers import Answered, read_answers
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.rows import Row
from xcomp_jax.evaluation.scoring import MODES, Mode, Reading
from xcomp_jax.evaluation.statistics import Estimate, estimate, standard_error

OVERLAPS = (0.3, 0.5, 0.7)
"""Overlaps above which a span counts as found: `eval_tvg.py` of VideoChat-Flash's harness."""

MAX_UNPARSED, MAX_ONE_LETTER = 0.2, 0.6
"""Shares above which a summary warns."""

MIN_VIDEOS = 10
"""Videos below which errors by video and intervals are not reliable."""

MIN_LETTERS = 20
"""Answers below which one frequent letter may be chance."""


@dataclasses.dataclass(frozen=True)
class GroupScore:
    """Mean score of a group of questions, with the standard error of independent questions."""

    mean: float
    questions: int
    error: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModeSummary:
    """Scores in one scoring mode, all as shares.

    Attributes:
        estimate: micro average: mean over the counted questions.
        macro: mean of the means of the groups of `Task.macro_over`.
        expected: micro average with random choices replaced by their expected value.
        groups: scores by kind of category and value.
        statuses: number of questions by status of the reading, and "failed".
        left_out: questions that the mode's rule leaves out of the mean.
        found: share of spans with an overlap of at least 0.3, 0.5, 0.7, in temporal grounding.
    """

    estimate: Estimate
    macro: float
    expected: float
    groups: dict[str, dict[str, GroupScore]]
    statuses: dict[str, int]
    left_out: int
    found: dict[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """Scores of a run.

    Attributes:
        missing: questions without a row.
        covered: share of questions with a frame in their annotated span, by "sampled", "selected"
            and "even"; empty without annotated spans.
        letters: number of answers by letter in reference mode.
    """

    benchmark: str
    questions: int
    missing: int
    modes: dict[Mode, ModeSummary]
    covered: dict[str, GroupScore]
    letters: dict[str, int]
    seconds: float
    warnings: tuple[str, ...]


def score_rows(task: Task, questions: Sequence[Question], rows: Iterable[Row]) -> Summary:
    """Reads every answer anew by the rules of `task` and summarizes the scores.

    Raises:
        DataError: as `read_answers`.
    """
    answered = read_answers(task, questions, rows)
    modes = {mode: _summarize(task, answered, mode) for mode in MODES}
    letters = Counter(entry.readings["reference"].parsed for entry in answered)
    del letters[""]
    if task.metric == "grounding":
        letters.clear()
    missing = len(questions) - len(answered)
    return Summary(
        benchmark=task.name,
        questions=len(answered),
        missing=missing,
        modes=modes,
        covered=_coverage([entry.row for entry in answered]),
        letters=dict(sorted(letters.items())),
        seconds=sum(entry.row.seconds for entry in answered),
        warnings=tuple(_warnings(modes["strict"], letters, missing)),
    )


def _summarize(task: Task, answered: Sequence[Answered], mode: Mode) -> ModeSummary:
    read = [(entry.question, entry.readings[mode]) for entry in answered]
    counted = [(question, reading) for question, reading in read if reading.counted]
    if not counted:
        raise DataError("every answer is empty, and the benchmark's rule leaves those out")
    scores = [reading.score for _, reading in counted]
    groups = _groups(task, counted)
    statuses = Counter(
        "failed" if entry.row.error else entry.readings[mode].status for entry in answered
    )
    return ModeSummary(
        estimate=estimate(scores, [question.cluster for question, _ in counted]),
        macro=float(np.mean([group.mean for group in groups[task.macro_over].values()])),
        expected=float(np.mean([reading.expected for _, reading in counted])),
        groups=groups,
        statuses=dict(statuses),
        left_out=len(read) - len(counted),
        found={
            overlap: float(np.mean([score >= overlap for score in scores])) for overlap in OVERLAPS
        }
        if task.metric == "grounding"
        else {},
    )


def _groups(
    task: Task, counted: Sequence[tuple[Question, Reading]]
) -> dict[str, dict[str, GroupScore]]:
    scores: dict[str, dict[str, list[float]]] = {}
    for question, reading in counted:
        for kind in dict.fromkeys((task.macro_over, *task.report_by)):
            for value in question.categories[kind]:
                scores.setdefault(kind, {}).setdefault(value, []).append(reading.score)
    return {
        kind: {value: _group(group) for value, group in sorted(values.items())}
        for kind, values in scores.items()
    }


def _group(scores: Sequence[float]) -> GroupScore:
    return GroupScore(float(np.mean(scores)), len(scores), standard_error(scores))


def _coverage(rows: Sequence[Row]) -> dict[str, GroupScore]:
    names = ("sampled", "selected", "even")
    values = {
        name: [float(row.covered[name]) for row in rows if name in row.covered] for name in names
    }
    return {name: _group(shares) for name, shares in values.items() if shares}


def _warnings(strict: ModeSummary, letters: Counter[str], missing: int) -> Iterable[str]:
    answered = sum(strict.statuses.values())
    unparsed = strict.statuses.get("unparsed", 0) + strict.statuses.get("empty", 0)
    if missing:
        yield f"{missing:,} questions have no row; the scores cover the others"
    if failures := strict.statuses.get("failed", 0):
        yield f"{failures:,} questions failed and count as wrong; their rows give the reasons"
    if unparsed > MAX_UNPARSED * answered:
        yield (
            f"{unparsed / answered:.0%} of the answers name no option in strict mode; read some of "
            "them before you trust a score"
        )
    if strict.estimate.videos < MIN_VIDEOS:
        yield f"{strict.estimate.videos} videos are too few for a reliable error or interval"
    total = sum(letters.values())
    if total >= MIN_LETTERS:
        letter, count = letters.most_common(1)[0]
        if count > MAX_ONE_LETTER * total:
            yield f"{count / total:.0%} of the answers are {letter}; the model may ignore the video"
