"""Chooses the hardest questions of a run and collects the frames that were chosen for them.

One run has one answer per question, so that a single question has no rate of success. The hardest
ones are the wrong answers from the groups with the lowest scores, from different videos first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from xcomp_jax.config import ProtocolConfig
from xcomp_jax.evaluation.answer_evidence import FOLDER, read_evidence
from xcomp_jax.evaluation.answers import Answered
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.media import VideoFinder
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.summary import GroupScore
from xcomp_jax.evidence import Evidence, make_thumbnails
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import probe
from xcomp_jax.video.sampling import plan_frames

SHOWN = 10
THUMBNAILS = 8
"""Pictures per question; ten questions then add about 1 MB to a report."""


@dataclasses.dataclass(frozen=True)
class HardQuestion:
    """A wrong answer with its evidence.

    Attributes:
        group, group_score: the group of `Task.macro_over` that it belongs to, and its mean score.
        page: path of its evidence page, relative to the report.
    """

    question: Question
    answer: str
    parsed: str
    gold: str
    group: str
    group_score: float
    evidence: Evidence
    page: str


def hardest_questions(
    task: Task,
    answered: Sequence[Answered],
    groups: dict[str, GroupScore],
    folder: Path,
    data: Path,
    protocol: ProtocolConfig,
) -> tuple[HardQuestion, ...]:
    """Returns up to `SHOWN` questions whose evidence is in the run's folder.

    Args:
        groups: scores of the groups of `task.macro_over` in the protocol's headline mode.
        folder: folder of the run.
        data: data folder; without the videos, there are no thumbnails.
    """
    found: list[HardQuestion] = []
    finder = VideoFinder(data, extracted_frames=protocol.extracted_frames)
    for entry in _ordered(task, answered, groups, protocol):
        evidence = read_evidence(folder, entry.row.key)
        if evidence is None:
            continue
        group = _group_of(task, entry.question, groups)
        found.append(
            HardQuestion(
                question=entry.question,
                answer=entry.row.answer,
                parsed=entry.readings[protocol.headline].parsed,
                gold=entry.row.gold,
                group=group,
                group_score=groups[group].mean,
                evidence=_with_thumbnails(evidence, entry.question, finder, protocol),
                page=f"{FOLDER}/{entry.row.key}.html",
            )
        )
        if len(found) == SHOWN:
            break
    return tuple(found)


def _ordered(
    task: Task,
    answered: Sequence[Answered],
    groups: dict[str, GroupScore],
    protocol: ProtocolConfig,
) -> Iterator[Answered]:
    """Yields wrong answers by the score of their group; second ones of a video come last."""
    wrong = [
        entry
        for entry in answered
        if not entry.row.error
        and entry.readings[protocol.headline].score < 1
        and _group_of(task, entry.question, groups)
    ]
    wrong.sort(key=lambda entry: groups[_group_of(task, entry.question, groups)].mean)
    seen: set[str] = set()
    later = []
    for entry in wrong:
        if entry.question.video_key in seen:
            later.append(entry)
        else:
            seen.add(entry.question.video_key)
            yield entry
    yield from later


def _group_of(task: Task, question: Question, groups: dict[str, GroupScore]) -> str:
    """Returns the question's group with the lowest score; empty without one."""
    values = [value for value in question.categories[task.macro_over] if value in groups]
    return min(values, key=lambda value: groups[value].mean, default="")


def _with_thumbnails(
    evidence: Evidence, question: Question, finder: VideoFinder, protocol: ProtocolConfig
) -> Evidence:
    """Adds thumbnails of selected frames; leaves out those of archives and missing videos."""
    sampling, (start, end) = protocol.sampling, question.clip or (None, None)
    try:
        place = finder.find(question)
        if place.member:
            return evidence
        info = probe(place.path, folder_fps=question.folder_fps)
        plan = plan_frames(
            info,
            fps=sampling.fps,
            min_frames=sampling.min_frames,
            max_frames=sampling.max_frames,
            start=start,
            end=end,
            cut_by=sampling.cut_by,
        )
        if plan.times != evidence.frame_times:
            return evidence  # the file has changed since
        thumbnails = make_thumbnails(
            info,
            plan.indices,
            plan.times,
            evidence.selected_frames,
            evidence.frame_scores,
            limit=THUMBNAILS,
        )
    except (DataError, VideoError):
        return evidence
    return dataclasses.replace(evidence, thumbnails=thumbnails)
