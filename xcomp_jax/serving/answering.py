"""Answers questions in small units of device work: score, prefill, and decode (`decoding`).

Questions about one video are scored in one pass, and questions with equal frames and text before
them share one prefill.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Sequence

from xcomp_jax.account import Account
from xcomp_jax.engine.row_batch import MAX_ROWS, DecodedSequence
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.selecting import select_frames
from xcomp_jax.inference.session import Session
from xcomp_jax.serving.decoding import Decoding
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.memory import StateMemory
from xcomp_jax.serving.metrics import Metrics
from xcomp_jax.serving.question import Failure, Question, Tokens
from xcomp_jax.serving.states import States


class Answering:
    """Holds all questions in progress; `submit` and `has_work` may be called by any thread.

    Args:
        max_waiting: questions that may wait before `submit` refuses more.
    """

    def __init__(
        self, session: Session, memory: StateMemory, metrics: Metrics, max_waiting: int
    ) -> None:
        self._session, self._states, self._metrics = session, States(memory), metrics
        self._decoding = Decoding(session.engine, self._states, metrics)
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: collections.deque[Question] = collections.deque()
        self._forgotten: list[str] = []

    def forget(self, video_id: str) -> None:
        """Drops the states of a deleted video before the next unit of work."""
        with self._lock:
            self._forgotten.append(video_id)

    def submit(self, question: Question) -> None:
        """Queues a question.

        Raises:
            ApiError: too many wait (429).
        """
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise ApiError(
                    429,
                    f"{len(self._waiting)} questions are waiting, the server's limit; try again "
                    "later",
                    code="queue_full",
                    retry_after=self._metrics.seconds_per_answer * len(self._waiting) / MAX_ROWS,
                )
            self._waiting.append(question)

    @property
    def num_waiting(self) -> int:
        """Number of questions that no device work has begun for."""
        return len(self._waiting)

    @property
    def num_active(self) -> int:
        """Number of questions in progress."""
        return self._decoding.num_questions

    def has_work(self) -> bool:
        """Returns True if `step` would do something."""
        return bool(self._waiting or self._decoding.num_questions or self._forgotten)

    def step(self) -> None:
        """Does one unit of preparation or admission, and one of decoding."""
        with self._lock:
            forgotten, self._forgotten = self._forgotten, []
        for video_id in forgotten:
            self._states.forget(video_id)
        self._release_over()
        if not self._decoding.admit():
            self._prepare()
            self._decoding.admit()
        self._decoding.decode()

    def fail_all(self, error: ApiError) -> None:
        """Ends every question with an error."""
        with self._lock:
            waiting = [*self._waiting]
            self._waiting.clear()
        for question in (*waiting, *self._decoding.drop_all()):
            question.emit(Failure(error))

    def _release_over(self) -> None:
        with self._lock:
            over = [question for question in self._waiting if question.is_over]
            self._waiting = collections.deque(q for q in self._waiting if q not in over)
        over += self._decoding.release_over()
        self._metrics.cancelled.inc(sum(question.cancelled for question in over))

    def _prepare(self) -> None:
        """Scores and prefills for the oldest questions, one video at a time."""
        with self._lock:
            if not self._waiting:
                return
            video = self._waiting[0].video
            group = [question for question in self._waiting if question.video is video]
        try:
            unscored = [question for question in group if not question.is_scored]
            if unscored:
                self._score(unscored)
            # Questions with equal states need one prefill; the others wait for their turn.
            first = next((question for question in group if not question.scores_only), None)
            prepared = [
                question
                for question in group
                if question.scores_only or (first and question.state_key == first.state_key)
            ]
            for question in prepared:
                self._begin(question)
        except Exception as error:
            self._remove_waiting(group)
            self._decoding.fail(group, error)
            return
        self._remove_waiting(prepared)

    def _begin(self, question: Question) -> None:
        if question.scores_only:
            question.emit(Tokens((), True))
            return
        begin = time.perf_counter()
        question.sequence = self._sequence_of(question)
        question.add_seconds("prefill", time.perf_counter() - begin)
        self._decoding.add(question)

    def _score(self, questions: Sequence[Question]) -> None:
        """Scores the frames of one video for several questions in one pass."""
        video = self._encoded(questions[0])
        new: dict[tuple[int, ...], list[Question]] = {}
        for question in questions:
            if video.windows is None:
                question.is_scored = True
                continue
            known = self._states.scores(question)
            if known is None:
                new.setdefault(question.scored_ids, []).append(question)
            else:
                question.frames, question.scores = known
                question.is_scored = True
        if not new:
            return
        begin = time.perf_counter()
        with Account() as account:
            results = self._session.score_questions(
                [video] * len(new), list(new), lambda *_: self._decoding.decode()
            )
        seconds = time.perf_counter() - begin
        self._metrics.scored_together.observe(len(new))
        self._states.keep_windows(questions[0].video.id, video)
        encoded = account.work.get("clips encoded", 0) * video.clip_frames
        self._metrics.frames_encoded.inc(encoded)
        for same, scores in zip(new.values(), results, strict=True):
            assert scores is not None
            frames = select_frames(video, scores)
            entry = (frames, scores.total)
            self._states.keep_scores(same[0], entry)
            for question in same:
                question.frames, question.scores = entry
                question.is_scored = True
                question.add_seconds("score", seconds)
                question.encoded_frames += encoded
                encoded = 0

    def _sequence_of(self, question: Question) -> DecodedSequence:
        """Finds or computes the KV cache of a question's frames, and the text after it."""
        cache = self._states.cache(question)
        if cache is None:
            video = self._encoded(question)
            with Account() as account:
                tokens = video.visual_tokens(question.frames)
                cache = self._session.engine.prefill_video([tokens], [question.prefix_ids])
            encoded = account.work.get("clips encoded", 0) * video.clip_frames
            self._metrics.frames_encoded.inc(encoded)
            question.encoded_frames += encoded
            self._states.keep_cache(question, cache)
        return self._states.sequence_of(question, cache)

    def _encoded(self, question: Question) -> EncodedVideo:
        encoded = question.video.encoded
        if encoded is None or question.video.deleted:
            raise ApiError(404, f"video {question.video.id} was deleted", code="not_found")
        return encoded

    def _remove_waiting(self, questions: Sequence[Question]) -> None:
        with self._lock:
            self._waiting = collections.deque(q for q in self._waiting if q not in questions)
