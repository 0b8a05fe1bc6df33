"""Checks the data folder of a benchmark before a run: questions, videos, subtitles."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from xcomp_jax.config import ProtocolConfig
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.media import Place, VideoFinder, local_file
from xcomp_jax.evaluation.prompts import question_prompt
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.question_sets import SetReport, recognise
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import plan_frames

Status = Literal["ok", "missing", "unreadable", "short", "no frames"]
"""State of a video.

short: the video, or the clip of a question, has fewer frames than the protocol's minimum, so that
    frames are repeated; it is used.
no frames: the clip of a question lies outside the video.
"""

USABLE: tuple[Status, ...] = ("ok", "short")


@dataclasses.dataclass(frozen=True)
class VideoReport:
    """State of one video, and the number of questions about it."""

    video: str
    status: Status
    questions: int
    frames: int = 0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class FolderReport:
    """Result of `check_folder`."""

    question_set: SetReport
    videos: tuple[VideoReport, ...]
    missing_subtitles: tuple[str, ...]
    without_answer: tuple[str, ...]
    """Ids of questions whose annotated answer is not among the options; they count as wrong."""
    without_prompt: tuple[str, ...] = ()
    """Reasons for which questions have no prompt, such as a damaged subtitle file; they fail."""
    subset: str = ""
    """`ProtocolConfig.subset`; `question_set` is that of all questions."""

    @property
    def usable(self) -> bool:
        """True if no question would fail."""
        is_readable = all(video.status in USABLE for video in self.videos)
        return is_readable and not self.without_prompt

    def count(self, status: Status) -> tuple[int, int]:
        """Returns (videos, questions) with a status."""
        found = [video for video in self.videos if video.status == status]
        return len(found), sum(video.questions for video in found)

    @property
    def text(self) -> str:
        """Several lines for a terminal: the set, each status, and the first faults."""
        lines = [self.question_set.text]
        if self.subset:
            lines.append(f"the protocol asks only questions with {self.subset}:")
        for status in ("ok", "short", "missing", "unreadable", "no frames"):
            videos, questions = self.count(status)
            if videos:
                lines.append(f"{status}: {videos:,} videos, {questions:,} questions")
        faults = [video for video in self.videos if video.status not in USABLE]
        lines += [f"  {video.video}: {video.status}: {video.reason}" for video in faults[:10]]
        if len(faults) > 10:
            lines.append(f"  and {len(faults) - 10:,} more")
        if self.missing_subtitles:
            shown = ", ".join(self.missing_subtitles[:3])
            lines.append(f"subtitles missing: {len(self.missing_subtitles):,}, such as {shown}")
        if self.without_prompt:
            count = len(self.without_prompt)
            lines.append(
                f"without a prompt: {count:,} questions, such as: {self.without_prompt[0]}"
            )
        if self.without_answer:
            shown = ", ".join(self.without_answer[:3])
            lines.append(f"answer not among the options: {len(self.without_answer):,} ({shown})")
        return "\n".join(lines)


def check_folder(
    task: Task,
    folder: Path,
    protocol: ProtocolConfig,
    *,
    workers: int = 8,
    progress: bool = True,
) -> FolderReport:
    """Probes every video of a benchmark's data folder; decodes none.

    Raises:
        DataError: the annotations are missing or damaged.
    """
    all_questions = task.load(folder)
    questions = in_subset(all_questions, protocol.subset)
    by_video: dict[str, list[Question]] = {}
    for question in questions:
        by_video.setdefault(question.video_key, []).append(question)
    finder = VideoFinder(folder, extracted_frames=protocol.extracted_frames)
    places = [_find(finder, group[0]) for group in by_video.values()]
    with ThreadPoolExecutor(workers) as pool, tempfile.TemporaryDirectory() as cache:
        reports = pool.map(
            lambda place, group: _report(place, group, protocol, Path(cache)),
            places,
            by_video.values(),
        )
        videos = tuple(ProgressBar(reports, total=len(places), unit="video", disable=not progress))
    return FolderReport(
        question_set=recognise(task.name, all_questions),
        videos=videos,
        missing_subtitles=_missing_subtitles(folder, questions) if protocol.subtitles else (),
        without_answer=tuple(
            question.id for question in questions if question.gold is None and question.span is None
        ),
        without_prompt=tuple(_prompt_faults(task, questions, folder, protocol)),
        subset=protocol.subset,
    )


def in_subset(questions: Sequence[Question], subset: str) -> list[Question]:
    """Returns the questions of a "kind=value" category, or all of them for an empty one.

    Raises:
        DataError: no question has it.
    """
    if not subset:
        return list(questions)
    kind, _, value = subset.partition("=")
    found = [question for question in questions if value in question.categories.get(kind, ())]
    if not found:
        raise DataError(f"no question has {subset}; check the protocol's subset")
    return found


def fitting(questions: Sequence[Question], max_frames: int) -> list[Question]:
    """Returns the questions whose haystack has at most `max_frames`; others have no haystack.

    Raises:
        DataError: every haystack is longer.
    """
    found = [question for question in questions if (question.haystack_frames or 0) <= max_frames]
    if questions and not found:
        least = min(question.haystack_frames or 0 for question in questions)
        raise DataError(
            f"the shortest haystack has {least:,} frames, more than --frames {max_frames:,}"
        )
    return found


def subtitle_warning(folder: Path, questions: Sequence[Question]) -> str:
    """Returns a sentence about missing subtitle files; empty if there are none."""
    missing = _missing_subtitles(folder, questions)
    if not missing:
        return ""
    total = len({question.subtitles for question in questions if question.subtitles})
    return f"{len(missing):,} of {total:,} subtitle files are missing, such as {missing[0]}"


def _find(finder: VideoFinder, question: Question) -> Place | DataError:
    try:
        return finder.find(question)
    except DataError as error:
        return error


def _report(
    place: Place | DataError, questions: Sequence[Question], protocol: ProtocolConfig, cache: Path
) -> VideoReport:
    video, count = questions[0].video, len(questions)
    if isinstance(place, DataError):
        return VideoReport(video, "missing", count, reason=str(place))
    path = None
    try:
        path = local_file(place, cache)
        info = probe(path, folder_fps=questions[0].folder_fps, threads=1)
    except DataError as error:
        return VideoReport(video, "unreadable", count, reason=str(error))
    except VideoError as error:
        return VideoReport(video, "unreadable", count, reason=error.reason)
    finally:
        if place.member and path is not None:
            path.unlink()
    try:
        repeats = [_repeats_frames(info, question, protocol) for question in questions]
    except VideoError as error:
        return VideoReport(video, "no frames", count, info.num_frames, error.reason)
    return VideoReport(video, "short" if any(repeats) else "ok", count, info.num_frames)


def _repeats_frames(info: VideoInfo, question: Question, protocol: ProtocolConfig) -> bool:
    start, end = question.clip or (None, None)
    plan = plan_frames(
        info,
        fps=protocol.sampling.fps,
        min_frames=protocol.sampling.min_frames,
        max_frames=protocol.sampling.max_frames,
        start=start,
        end=end,
        cut_by=protocol.sampling.cut_by,
    )
    return len(set(plan.indices)) < len(plan.indices)


def _missing_subtitles(folder: Path, questions: Sequence[Question]) -> tuple[str, ...]:
    files = dict.fromkeys(question.subtitles for question in questions if question.subtitles)
    return tuple(file for file in files if not (folder / file).is_file())


def _prompt_faults(
    task: Task, questions: Sequence[Question], folder: Path, protocol: ProtocolConfig
) -> Iterator[str]:
    """Yields, for each question without a prompt, the reason."""
    for question in questions:
        try:
            question_prompt(task, question, folder, subtitles=protocol.subtitles)
        except (DataError, OSError) as error:
            yield str(error)
