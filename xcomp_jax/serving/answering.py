"""Answers questions in small units of device work: score, prefill, admit, decode.

Questions about one video are scored in one pass, and all sequences whose caches have the same shape
are decoded as one batch, which questions join and leave at any time.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Hashable, Sequence

from xcomp_jax.account import Account
from xcomp_jax.engine.row_batch import MAX_ROWS, MAX_STEPS, DecodedSequence, RowBatch
from xcomp_jax.inference.answerer import common_prefix
from xcomp_jax.inference.encoded_video import EncodedVideo, num_bytes
from xcomp_jax.inference.selecting import select_frames
from xcomp_jax.inference.session import Session
from xcomp_jax.serving.errors import ApiError, api_error_of
from xcomp_jax.serving.memory import StateMemory
from xcomp_jax.serving.metrics import Metrics
from xcomp_jax.serving.question import Failure, Question, Tokens

logger = logging.getLogger(__name__)

MIN_REUSED = 8
"""Fewer equal leading tokens are not worth a copy of their keys and values."""


class Answering:
    """Holds all questions in progress; `submit` and `has_work` may be called by any thread.

    Args:
        max_waiting: questions that may wait before `submit` refuses more.
    """

    def __init__(
        self, session: Session, memory: StateMemory, metrics: Metrics, max_waiting: int
    ) -> None:
        self._session, self._memory, self._metrics = session, memory, metrics
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: collections.deque[Question] = collections.deque()
        self._ready: list[Question] = []
        self._active: dict[DecodedSequence, Question] = {}
        self._batches: dict[Hashable, RowBatch] = {}
        self._forgotten: list[str] = []
        self._turn = 0

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
        return len(self._ready) + len(self._active)

    def has_work(self) -> bool:
        """Returns True if `step` would do something."""
        return bool(self._waiting or self._ready or self._active)

    def step(self) -> None:
        """Does one unit of preparation or admission, and one of decoding."""
        with self._lock:
            forgotten, self._forgotten = self._forgotten, []
        for video_id in forgotten:
            self._memory.drop_video(video_id)
        self._release_cancelled()
        if not self._admit():
            self._prepare()
            self._admit()
        self._decode()

    def fail_all(self, error: ApiError) -> None:
        """Ends every question with an error."""
        with self._lock:
            waiting = [*self._waiting]
            self._waiting.clear()
        for question in (*waiting, *self._ready, *self._active.values()):
            question.emit(Failure(error))
        self._ready, self._active, self._batches = [], {}, {}

    # --- units ----------------------------------------------------------------------------------

    def _release_cancelled(self) -> None:
        with self._lock:
            kept = [question for question in self._waiting if not question.cancelled]
            self._metrics.cancelled.inc(len(self._waiting) - len(kept))
            self._waiting = collections.deque(kept)
        self._metrics.cancelled.inc(sum(question.cancelled for question in self._ready))
        self._ready = [question for question in self._ready if not question.cancelled]
        cancelled = [sequence for sequence, q in self._active.items() if q.cancelled]
        for sequence in cancelled:
            del self._active[sequence]
            self._batches[sequence.shape].release([sequence])
            self._metrics.cancelled.inc()

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
            self._fail(group, error)
            return
        self._remove_waiting(prepared)

    def _begin(self, question: Question) -> None:
        if question.scores_only:
            question.emit(Tokens((), True))
            return
        begin = time.perf_counter()
        question.sequence = self._sequence_of(question)
        question.add_seconds("prefill", time.perf_counter() - begin)
        self._ready.append(question)

    def _score(self, questions: Sequence[Question]) -> None:
        """Scores the frames of one video for several questions in one pass."""
        video = self._encoded(questions[0])
        new: dict[tuple[int, ...], list[Question]] = {}
        for question in questions:
            if video.windows is None:
                question.is_scored = True
                continue
            known = self._memory.get(("scores", question.video.id, question.scored_ids))
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
                [video] * len(new), list(new), lambda *_: self._decode()
            )
        seconds = time.perf_counter() - begin
        self._metrics.scored_together.observe(len(new))
        self._memory.put(
            ("windows", questions[0].video.id),
            video,
            num_bytes(video.window_caches),
            video.window_caches.clear,
        )
        encoded = account.work.get("clips encoded", 0) * video.clip_frames
        for (ids, same), scores in zip(new.items(), results, strict=True):
            assert scores is not None
            frames = select_frames(video, scores)
            entry = (frames, scores.total)
            self._memory.put(
                ("scores", same[0].video.id, ids),
                entry,
                scores.total.nbytes + 8 * len(frames or ()),
            )
            for question in same:
                question.frames, question.scores = entry
                question.is_scored = True
                question.add_seconds("score", seconds)
                question.encoded_frames += encoded
                encoded = 0

    def _sequence_of(self, question: Question) -> DecodedSequence:
        """Finds or computes the KV cache of a question's frames, and the text after it."""
        key = ("cache", *question.state_key)
        cache = self._memory.get(key)
        if cache is None:
            video = self._encoded(question)
            with Account() as account:
                tokens = video.visual_tokens(question.frames)
                cache = self._session.engine.prefill_video([tokens], [question.prefix_ids])
            question.encoded_frames += account.work.get("clips encoded", 0) * video.clip_frames
            self._metrics.frames_encoded.inc(question.encoded_frames)
            self._memory.put(key, cache, num_bytes(cache))
        sequence = DecodedSequence(cache, question.ids, question.generation, question.seed)
        found, reused = None, MIN_REUSED - 1
        for candidate in self._memory.keys():  # noqa: SIM118, no dict
            if isinstance(candidate, tuple) and candidate[:4] == ("text", *question.state_key):
                length = common_prefix(candidate[4], question.ids[:-1])
                if length > reused:
                    found, reused = candidate, length
        if found is not None:
            sequence.text, sequence.text_length = self._memory.get(found), reused
            sequence.ids = question.ids[reused:]
            question.reused = reused
        return sequence

    def _admit(self) -> bool:
        """Lets ready questions join their batch; returns False if none is ready."""
        if not self._ready:
            return False
        first = self._ready[0].sequence
        assert first is not None
        batch = self._batches.setdefault(first.shape, RowBatch(self._session.engine))
        joining = [
            question
            for question in self._ready
            if question.sequence is not None
            and question.sequence.shape == first.shape
            and question.sequence.padded_ids == first.padded_ids
        ][: batch.num_free]
        if not joining:
            return False
        begin = time.perf_counter()
        sequences = [question.sequence for question in joining if question.sequence is not None]
        try:
            batch.admit(sequences)
        except Exception as error:
            self._ready = [question for question in self._ready if question not in joining]
            self._fail([*joining, *self._questions_of(batch)], error)
            del self._batches[first.shape]
            return True
        self._ready = [question for question in self._ready if question not in joining]
        self._active.update(zip(sequences, joining, strict=True))
        self._metrics.rows.observe(len(batch.active))
        for question in joining:
            question.add_seconds("prefill", time.perf_counter() - begin)
            question.add_seconds("first_token", time.perf_counter() - question.submitted)
            question.emit_new()
        self._finish_done(batch)
        return True

    def _decode(self) -> None:
        """Decodes a few tokens of the next batch in turn."""
        self._batches = {shape: b for shape, b in self._batches.items() if b.active}
        if not self._batches:
            return
        self._turn += 1
        batch = [*self._batches.values()][self._turn % len(self._batches)]
        begin = time.perf_counter()
        questions = self._questions_of(batch)
        try:
            batch.decode(MAX_STEPS)
        except Exception as error:
            self._fail(questions, error)
            self._batches = {shape: b for shape, b in self._batches.items() if b is not batch}
            return
        self._metrics.rows.observe(len(questions))
        for question in questions:
            question.add_seconds("decode", time.perf_counter() - begin)
            question.emit_new()
        self._finish_done(batch)

    def _finish_done(self, batch: RowBatch) -> None:
        """Releases finished sequences and keeps their text for the next turn."""
        done = [sequence for sequence in batch.active if sequence.done]
        for sequence in done:
            question = self._active.pop(sequence)
            text, length = batch.text_of(sequence)
            ids = (*question.ids, *sequence.generated)[:length]
            if question.reused:
                self._memory.drop(("text", *question.state_key, question.ids[: question.reused]))
            self._memory.put(("text", *question.state_key, ids), text, num_bytes(text))
        if done:
            batch.release(done)

    # --- helpers --------------------------------------------------------------------------------

    def _encoded(self, question: Question) -> EncodedVideo:
        encoded = question.video.encoded
        if encoded is None or question.video.deleted:
            raise ApiError(404, f"video {question.video.id} was deleted", code="not_found")
        return encoded

    def _questions_of(self, batch: RowBatch) -> list[Question]:
        return [self._active[sequence] for sequence in batch.active]

    def _remove_waiting(self, questions: Sequence[Question]) -> None:
        with self._lock:
            self._waiting = collections.deque(q for q in self._waiting if q not in questions)

    def _fail(self, questions: Sequence[Question], error: Exception) -> None:
        api_error = api_error_of(error, questions[0].video.name)
        self._remove_waiting(questions)
        for question in questions:
            if question.sequence is not None:
                self._active.pop(question.sequence, None)
            question.emit(Failure(api_error))
