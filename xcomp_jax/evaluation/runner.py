"""Asks a model the questions of a benchmark and writes a row for each.

Questions are grouped by video: a video is probed, decoded and encoded once for all of its
questions. Rows are on disk as soon as a video is finished. A run that was killed is resumed by
starting it again, with any number of processes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xcomp_jax.config import ProtocolConfig
from xcomp_jax.evaluation.answer_evidence import AnswerEvidence
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.grouping import Shard, VideoGroup, group_by_video
from xcomp_jax.evaluation.make_rows import answer_row, failed_row
from xcomp_jax.evaluation.media import Place, VideoFinder, local_file, member_hash
from xcomp_jax.evaluation.prepare_session import protocol_hash
from xcomp_jax.evaluation.prompts import question_prompt
from xcomp_jax.evaluation.question import Question, Task, prompt_hash
from xcomp_jax.evaluation.rows import Row, row_key
from xcomp_jax.evaluation.run_folder import rows_of, shard_writer
from xcomp_jax.evaluation.scoring import Span
from xcomp_jax.inference.session import Session
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.folder import sidecar_duration
from xcomp_jax.video.probe import VideoInfo, probe

EXTRACTED = "extracted"
"""Folder of a run for members of archives; each is deleted when its questions are answered."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Questions of one benchmark, and what they are answered with.

    Attributes:
        data: the benchmark's data folder.
        session: the model with the settings of `protocol` (`prepare_session.protocol_session`).
        folder: folder of rows, opened by `run_folder.open_run`.
        hash_video: returns the hash of a video's content; must not read an unchanged file twice.
        batch_size: questions per batch. Without selection, questions share one cache of the video
            only in batches of one.
        checkpoint: name of the model on evidence pages.
    """

    task: Task
    questions: Sequence[Question]
    data: Path
    protocol: ProtocolConfig
    session: Session
    checkpoint_hash: str
    folder: Path
    hash_video: Callable[[Path], str]
    batch_size: int = 1
    checkpoint: str = ""


@dataclasses.dataclass(frozen=True)
class Prompted:
    """A question with its prompt, or with the reason for which it has none."""

    question: Question
    text: str
    problem: str = ""


def run_questions(
    evaluation: Evaluation,
    shard: Shard | None = None,
    *,
    progress: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
    on_video: Callable[[VideoGroup, float], None] | None = None,
) -> bool:
    """Answers the questions of one part of the videos that have no row yet.

    A video that cannot be read costs its own questions: their rows hold the reason, and a later run
    tries them again.

    Args:
        should_stop: asked before every video; ends the run early, which another run continues.
        on_video: called after a video of which no question had an answer, with its wall time.

    Returns:
        False if the run was ended early.

    Raises:
        ConfigError: the settings do not fit the model.
        DataError: the rows are damaged, or another process writes the same file.
    """
    shard = shard or Shard()
    groups = shard.of(group_by_video(evaluation.questions))
    total = sum(len(group.questions) for group in groups)
    runner = _Runner(evaluation, rows_of(evaluation.folder))
    with (
        shard_writer(evaluation.folder, shard) as writer,
        ProgressBar(total=total, unit="question", disable=not progress) as bar,
    ):
        for group in groups:
            if should_stop():
                return False
            began = time.perf_counter()
            for row in runner.answer_group(group):
                writer.append(row)
            if on_video is not None and not runner.last_skipped:
                on_video(group, time.perf_counter() - began)
            # Questions with rows are no work of this run, so that the rate leaves them out.
            answered = runner.last_skipped
            bar.skip(answered)
            bar.update(len(group.questions) - answered)
    return True


class _Runner:
    def __init__(self, evaluation: Evaluation, rows: dict[str, Row]) -> None:
        self._run, self._rows = evaluation, rows
        self._finder = VideoFinder(
            evaluation.data, extracted_frames=evaluation.protocol.extracted_frames
        )
        self._protocol_hash = protocol_hash(evaluation.protocol)
        self._evidence = AnswerEvidence(evaluation.folder, evaluation.checkpoint)
        self.last_skipped = 0

    def answer_group(self, group: VideoGroup) -> Iterator[Row]:
        """Yields the missing rows of one video."""
        first, self.last_skipped = group.questions[0], 0
        prompts = {question.id: self._prompt(question) for question in group.questions}
        try:
            place = self._finder.find(first)
            video_hash = self._video_hash(place)
        except (DataError, VideoError) as error:
            yield from self._failures(list(prompts.values()), "", str(error))
            return
        missing = {name for name, prompt in prompts.items() if self._is_missing(prompt, video_hash)}
        self.last_skipped = len(prompts) - len(missing)
        if not missing:
            return
        path = None
        try:
            path = local_file(place, self._run.folder / EXTRACTED)
            info = probe(path, folder_fps=first.folder_fps)
        except (DataError, VideoError) as error:
            unanswered = [prompts[name] for name in prompts if name in missing]
            yield from self._failures(unanswered, video_hash, str(error))
        else:
            for clip, questions in group.by_clip:
                if missing.intersection(question.id for question in questions):
                    asked = [prompts[question.id] for question in questions]
                    for row in self._answer_clip(info, clip, asked, video_hash):
                        if row.id in missing:
                            yield row
        finally:
            if place.member and path is not None:
                path.unlink(missing_ok=True)

    def _answer_clip(
        self, info: VideoInfo, clip: Span | None, prompts: Sequence[Prompted], video_hash: str
    ) -> Iterator[Row]:
        """Yields the rows of all questions about one part of a video.

        All are asked even if one row is missing: an answer must not depend on where a run was
        interrupted, and batches round differently.
        """
        session = self._run.session
        for prompt in prompts:
            if prompt.problem:
                yield from self._failures([prompt], video_hash, prompt.problem)
        valid = [prompt for prompt in prompts if not prompt.problem]
        if not valid:
            return
        start, end = clip or (None, None)
        began = time.perf_counter()
        try:
            video = session.encode_video(info, start=start, end=end)
            encoded = time.perf_counter()
            answers = session.ask_all(
                video, [prompt.text for prompt in valid], batch_size=self._run.batch_size
            )
        except VideoError as error:
            yield from self._failures(valid, video_hash, str(error))
            return
        seconds = [answer.wall_seconds for answer in answers]
        seconds[0] += encoded - began
        for prompt, answer, taken in zip(valid, answers, seconds, strict=True):
            row = answer_row(
                self._run.task,
                prompt.question,
                key=self._key(prompt, video_hash),
                prompt=prompt.text,
                answer=answer.text,
                frame_times=video.plan.times,
                selected_frames=answer.selected_frames,
                seconds=taken,
            )
            if row.scores[self._run.protocol.headline] < 1:
                self._evidence.keep(row.key, video, answer)
            yield row

    def _prompt(self, question: Question) -> Prompted:
        """Builds and checks a prompt; a missing subtitle file costs one question."""
        run = self._run
        try:
            text = question_prompt(run.task, question, run.data, subtitles=run.protocol.subtitles)
            run.session.check_question(text)
        except (ValueError, OSError) as error:
            return Prompted(question, "", str(error))
        return Prompted(question, text)

    def _failures(self, prompts: Sequence[Prompted], video_hash: str, error: str) -> Iterator[Row]:
        """Yields rows with a reason, except those that the run has already."""
        for prompt in prompts:
            key = self._key(prompt, video_hash)
            old = self._rows.get(key)
            if old is None or old.error != error:
                yield failed_row(self._run.task, prompt.question, key=key, error=error)

    def _is_missing(self, prompt: Prompted, video_hash: str) -> bool:
        row = self._rows.get(self._key(prompt, video_hash))
        return row is None or bool(row.error)

    def _key(self, prompt: Prompted, video_hash: str) -> str:
        return row_key(
            benchmark=self._run.task.name,
            question_id=prompt.question.id,
            prompt_hash=prompt_hash(prompt.text),
            video_hash=f"{video_hash} {prompt.question.clip} {prompt.question.folder_fps:g}",
            checkpoint_hash=self._run.checkpoint_hash,
            protocol_hash=self._protocol_hash,
        )

    def _video_hash(self, place: Place) -> str:
        """Hashes a video; an archive's directory has a checksum of every member."""
        if not place.member:
            video_hash = self._run.hash_video(place.path)
            # The prompt states the duration, which a folder of images has in a file beside it.
            duration = sidecar_duration(place.path) if place.path.is_dir() else None
            return video_hash if duration is None else f"{video_hash} {duration}"
        return member_hash(place)
