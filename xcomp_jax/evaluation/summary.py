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
from xcomp_jax.evaluation.statistics import (
    Estimate,
    clustered_error,
    estimate,
    macro_error,
    standard_error,
)

OVERLAPS = (0.3, 0.5, 0.7)
"""Overlaps above which a span counts as found: `eval_tvg.py` of VideoChat-Flash's harness."""

MAX_UNPARSED, MAX_ONE_LETTER, MAX_WITHOUT_GOLD = 0.2, 0.6, 0.01
"""Shares above which a summary warns."""

UNPARSED = ("unparsed", "empty", "random")
"""Statuses of readings that name nothing."""

MIN_VIDEOS = 10
"""Videos below which errors by video and intervals are not reliable."""

MIN_LETTERS = 20
"""Answers below which one frequent letter may be chance."""


@dataclasses.dataclass(frozen=True)
class GroupScore:
    """Mean score of a group of questions.

    error: standard error with videos as clusters; that of independent questions if the group has
        fewer than `MIN_VIDEOS` videos.
    """

    mean: float
    questions: int
    error: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModeSummary:
    """Scores in one scoring mode, all as shares.

    Attributes:
        estimate: micro average: mean over the counted questions.
        macro, macro_error: mean of the means of the groups of `Task.macro_over`, and its standard
            error with videos as clusters.
        expected: micro average with random choices replaced by their expected value.
        groups: scores by kind of category and value.
        statuses: number of questions by status of the reading, and "failed".
        left_out: questions that the mode's rule leaves out of the mean.
        found: share of spans with an overlap of at least 0.3, 0.5, 0.7, in temporal grounding.
    """

    estimate: Estimate
    macro: float
    macro_error: float
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
        covered=_coverage(answered),
        letters=dict(sorted(letters.items())),
        seconds=sum(entry.row.seconds for entry in answered),
        warnings=tuple(_warnings(task, answered, modes, letters, missing)),
    )


def _summarize(task: Task, answered: Sequence[Answered], mode: Mode) -> ModeSummary:
    read = [(entry.question, entry.readings[mode]) for entry in answered]
    counted = [(question, reading) for question, reading in read if reading.counted]
    if not counted:
        raise DataError("every answer is empty, and the benchmark's rule leaves those out")
    scores = [reading.score for _, reading in counted]
    members = _members(task, counted)
    macro_groups = list(members[task.macro_over].values())
    statuses = Counter(
        "failed" if entry.row.error else entry.readings[mode].status for entry in answered
    )
    return ModeSummary(
        estimate=estimate(scores, [question.cluster for question, _ in counted]),
        macro=float(np.mean([np.mean(group.scores) for group in macro_groups])),
        macro_error=macro_error([(group.scores, group.videos) for group in macro_groups]),
        expected=float(np.mean([reading.expected for _, reading in counted])),
        groups={
            kind: {value: _group_score(group) for value, group in sorted(groups.items())}
            for kind, groups in members.items()
        },
        statuses=dict(statuses),
        left_out=len(read) - len(counted),
        found={
            overlap: float(np.mean([score >= overlap for score in scores])) for overlap in OVERLAPS
        }
        if task.metric == "grounding"
        else {},
    )


@dataclasses.dataclass(frozen=True)
class _Members:
    """Scores and videos of a group's questions."""

    scores: list[float] = dataclasses.field(default_factory=list)
    videos: list[str] = dataclasses.field(default_factory=list)

    def add(self, score: float, video: str) -> None:
        self.scores.append(score)
        self.videos.append(video)


def _members(
    task: Task, counted: Sequence[tuple[Question, Reading]]
) -> dict[str, dict[str, _Members]]:
    """Returns the members of each group by kind of category and value."""
    members: dict[str, dict[str, _Members]] = {}
    for question, reading in counted:
        for kind in dict.fromkeys((task.macro_over, *task.report_by)):
            for value in question.categories[kind]:
                group = members.setdefault(kind, {}).setdefault(value, _Members())
                group.add(reading.score, question.cluster)
    return members


def _group_score(group: _Members) -> GroupScore:
    if len(set(group.videos)) < MIN_VIDEOS:
        error = standard_error(group.scores)
    else:
        error = clustered_error(group.scores, group.videos)
    return GroupScore(float(np.mean(group.scores)), len(group.scores), error)


def _coverage(answered: Sequence[Answered]) -> dict[str, GroupScore]:
    groups: dict[str, _Members] = {}
    for name in ("sampled", "selected", "even"):
        for entry in answered:
            if name in entry.row.covered:
                group = groups.setdefault(name, _Members())
                group.add(float(entry.row.covered[name]), entry.question.cluster)
    return {name: _group_score(group) for name, group in groups.items()}


def _warnings(
    task: Task,
    answered: Sequence[Answered],
    modes: dict[Mode, ModeSummary],
    letters: Counter[str],
    missing: int,
) -> Iterable[str]:
    strict, count = modes["strict"], len(answered)
    if missing:
        yield f"{missing:,} questions have no row; the scores cover the others"
    if failures := strict.statuses.get("failed", 0):
        yield f"{failures:,} questions failed and count as wrong; their rows give the reasons"
    questions = [entry.question for entry in answered]
    without_gold = sum(question.gold is None and question.span is None for question in questions)
    if without_gold > MAX_WITHOUT_GOLD * count:
        yield (
            f"{without_gold:,} questions have no right answer among their options and count as "
            "wrong; check the annotations"
        )
    unparsed = {
        mode: sum(summary.statuses.get(status, 0) for status in UNPARSED)
        for mode, summary in modes.items()
    }
    worst = max(unparsed, key=lambda mode: unparsed[mode])
    if unparsed[worst] > MAX_UNPARSED * count:
        noun = "time span" if task.metric == "grounding" else "option"
        yield (
            f"{unparsed[worst] / count:.0%} of the answers name no {noun} in {worst} mode; read "
            "some of them before you trust a score"
        )
    if strict.estimate.videos < MIN_VIDEOS:
        yield f"{strict.estimate.videos} videos are too few for a reliable error or interval"
    total = sum(letters.values())
    if total >= MIN_LETTERS:
        letter, most = letters.most_common(1)[0]
        if most > MAX_ONE_LETTER * total:
            yield f"{most / total:.0%} of the answers are {letter}; the model may ignore the video"
