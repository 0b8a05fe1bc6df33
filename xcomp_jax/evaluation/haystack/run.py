"""Asks the questions of a needle benchmark, cell by cell, and writes a row for each.

The haystack is encoded once; a cell inserts needles among its visual tokens and prefills them. Rows
are on disk as soon as a question is answered, so that a killed run goes on where it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.grouping import Shard
from xcomp_jax.evaluation.haystack.ask import ask, needle_video, share_windows
from xcomp_jax.evaluation.haystack.encode import (
    Haystack,
    NeedleEncoder,
    encode_haystack,
    needle_path,
)
from xcomp_jax.evaluation.haystack.tokens import InsertedNeedle, NeedleFrames
from xcomp_jax.evaluation.make_rows import answer_row, failed_row
from xcomp_jax.evaluation.media import VideoFinder
from xcomp_jax.evaluation.prepare_session import protocol_hash
from xcomp_jax.evaluation.question import Needle, Question, prompt_hash
from xcomp_jax.evaluation.rows import Row, row_key
from xcomp_jax.evaluation.run_folder import rows_of, shard_writer
from xcomp_jax.evaluation.runner import Evaluation
from xcomp_jax.evaluation.scoring import letter_at
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.video.probe import probe

Cell = tuple[int, tuple[Needle, ...]]
"""Frames of the haystack, and needles."""


def run_needles(
    evaluation: Evaluation,
    shard: Shard | None = None,
    *,
    progress: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Answers the questions of one part of the cells that have no row yet, short haystacks first.

    Args:
        should_stop: asked before every cell; ends the run early, which another run continues.

    Returns:
        False if the run was ended early.

    Raises:
        DataError: the haystack is missing or too short, or another process writes the same file.
        VideoError: the haystack cannot be read.
    """
    shard = shard or Shard()
    cells = list(group_by_cell(evaluation.questions).items())[shard.index :: shard.count]
    rows = rows_of(evaluation.folder)
    with (
        shard_writer(evaluation.folder, shard) as writer,
        ProgressBar(
            total=sum(len(questions) for _, questions in cells),
            unit="question",
            disable=not progress,
        ) as bar,
    ):
        runner = _Runner(evaluation, rows, progress=progress)
        for cell, questions in cells:
            if should_stop():
                return False
            new = 0
            for row in runner.answer_cell(cell, questions):
                writer.append(row)
                bar.update()
                new += 1
            bar.skip(len(questions) - new)
    return True


def group_by_cell(questions: Sequence[Question]) -> dict[Cell, list[Question]]:
    """Groups questions about the same needles at the same places, short haystacks first."""
    groups: dict[Cell, list[Question]] = {}
    for question in sorted(questions, key=lambda question: question.haystack_frames or 0):
        groups.setdefault((question.haystack_frames or 0, question.needles), []).append(question)
    return groups


class _Runner:
    def __init__(self, evaluation: Evaluation, rows: dict[str, Row], *, progress: bool) -> None:
        self._run, self._rows, self._progress = evaluation, rows, progress
        self._protocol_hash = protocol_hash(evaluation.protocol)
        self._needles = NeedleEncoder(evaluation.session, evaluation.data)
        place = VideoFinder(evaluation.data).find(evaluation.questions[0])
        if place.member:
            raise DataError(f"unpack the haystack {place.member} of {place.path}")
        self._path = place.path
        self._video_hash = evaluation.hash_video(place.path)
        self._haystack: Haystack | None = None
        self._last: tuple[EncodedVideo, tuple[range, ...]] | None = None

    def answer_cell(self, cell: Cell, questions: Sequence[Question]) -> Iterator[Row]:
        """Yields the missing rows of one cell; a missing needle image costs its questions."""
        frames, needles = cell
        try:
            where = self._content_hash(cell)
        except DataError as error:
            for question in questions:
                key = self._key(question, "")
                if key not in self._rows:
                    yield failed_row(self._run.task, question, key=key, error=str(error))
            return
        missing = [question for question in questions if self._is_missing(question, where)]
        if not missing:
            return
        began = time.perf_counter()
        inserted = [
            InsertedNeedle(needle.frame, self._needles.tokens(needle.image)) for needle in needles
        ]
        sequence = NeedleFrames(self._encoded().tokens, inserted, frames)
        video = needle_video(self._run.session, sequence, f"{frames} frames")
        if self._last is not None and self._last[1] == sequence.needle_frames:
            share_windows(self._run.session, self._last[0], video, sequence.needle_frames)
        self._last = video, sequence.needle_frames
        for question in missing:
            yield self._row(question, video, sequence, where, began)
            began = time.perf_counter()

    def _row(
        self,
        question: Question,
        video: EncodedVideo,
        sequence: NeedleFrames,
        where: str,
        began: float,
    ) -> Row:
        assert question.gold is not None
        prompt = self._run.task.prompt(question, None)
        answer = ask(
            self._run.session,
            video,
            prompt,
            letter_at(question.gold),
            time_message=self._run.protocol.time_message,
        )
        fps = self._run.session.sampling.fps
        span = sequence.needle_frames[-1]  # Of a chain, the questions are about the last image.
        return answer_row(
            self._run.task,
            question,
            key=self._key(question, where),
            prompt=prompt,
            answer=answer.text,
            frame_times=(np.arange(len(sequence)) / fps).tolist(),
            selected_frames=answer.selected_frames,
            evidence=((span.start / fps, (span.stop - 1) / fps),),
            seconds=time.perf_counter() - began,
        )

    def _encoded(self) -> Haystack:
        if self._haystack is None:
            longest = max(question.haystack_frames or 0 for question in self._run.questions)
            info = probe(self._path)
            with ProgressBar(
                desc="encoding the haystack", unit="clip", disable=not self._progress
            ) as bar:

                def update(done: int, total: int) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                self._haystack = encode_haystack(
                    self._run.session, info, frames=longest, progress=update
                )
        return self._haystack

    def _content_hash(self, cell: Cell) -> str:
        """Hashes haystack, needle images and their places."""
        frames, needles = cell
        images = [
            (self._run.hash_video(needle_path(self._run.data, needle.image)), needle.frame)
            for needle in needles
        ]
        return f"{self._video_hash} {frames} {images}"

    def _is_missing(self, question: Question, where: str) -> bool:
        row = self._rows.get(self._key(question, where))
        return row is None or bool(row.error)

    def _key(self, question: Question, where: str) -> str:
        return row_key(
            benchmark=self._run.task.name,
            question_id=question.id,
            prompt_hash=prompt_hash(self._run.task.prompt(question, None)),
            video_hash=where,
            checkpoint_hash=self._run.checkpoint_hash,
            protocol_hash=self._protocol_hash,
        )
