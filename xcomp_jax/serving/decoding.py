"""Decodes prepared questions: sequences whose caches have the same shape are one batch.

Questions join and leave their batch at any time. Used by the device thread only.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Sequence

from xcomp_jax.engine.engine import Engine
from xcomp_jax.engine.row_batch import MAX_ROWS, MAX_STEPS, DecodedSequence, RowBatch
from xcomp_jax.serving.errors import api_error_of
from xcomp_jax.serving.metrics import Metrics
from xcomp_jax.serving.question import Failure, Question
from xcomp_jax.serving.states import States

MAX_ACTIVE = 2 * MAX_ROWS
"""Sequences decoded at a time, in all batches; bounds the device memory of their caches."""


class Decoding:
    """Holds the questions that wait for a place in a batch, and those in one."""

    def __init__(self, engine: Engine, states: States, metrics: Metrics) -> None:
        self._engine, self._states, self._metrics = engine, states, metrics
        self._ready: list[Question] = []
        self._active: dict[DecodedSequence, Question] = {}
        self._batches: dict[Hashable, RowBatch] = {}
        self._turn = 0

    @property
    def num_questions(self) -> int:
        """Number of questions that wait for a place or have one; any thread may ask."""
        return len(self._ready) + len(self._active)

    def add(self, question: Question) -> None:
        """Adds a question whose sequence is prepared."""
        self._ready.append(question)

    def release_over(self) -> list[Question]:
        """Drops and returns the questions whose answer is no longer needed."""
        over = [question for question in self._ready if question.is_over]
        self._ready = [question for question in self._ready if question not in over]
        for sequence, question in [*self._active.items()]:
            if question.is_over:
                del self._active[sequence]
                self._batches[sequence.shape].release([sequence])
                over.append(question)
        return over

    def admit(self) -> bool:
        """Lets questions join their batch; returns False if none can."""
        room = MAX_ACTIVE - len(self._active)
        waiting = [question.sequence for question in self._ready if question.sequence is not None]
        first = next((s for s in waiting if room > 0 and self._batch_of(s).num_free), None)
        if first is None:
            return False
        batch = self._batch_of(first)
        joining = [
            question
            for question in self._ready
            if question.sequence is not None
            and question.sequence.shape == first.shape
            and question.sequence.padded_ids == first.padded_ids
        ][: min(batch.num_free, room)]
        begin = time.perf_counter()
        sequences = [question.sequence for question in joining if question.sequence is not None]
        try:
            batch.admit(sequences)
        except Exception as error:
            self.fail([*joining, *self._questions_of(batch)], error)
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

    def decode(self) -> None:
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
            self.fail(questions, error)
            self._batches = {shape: b for shape, b in self._batches.items() if b is not batch}
            return
        self._metrics.rows.observe(len(questions))
        for question in questions:
            question.add_seconds("decode", time.perf_counter() - begin)
            question.emit_new()
        self._finish_done(batch)

    def fail(self, questions: Sequence[Question], error: Exception) -> None:
        """Ends questions with an error, also those that were never added."""
        api_error = api_error_of(error, questions[0].video.name)
        self._drop(questions)
        for question in questions:
            question.emit(Failure(api_error))

    def drop_all(self) -> list[Question]:
        """Drops and returns all questions."""
        dropped = [*self._ready, *self._active.values()]
        self._ready, self._active, self._batches = [], {}, {}
        return dropped

    def _finish_done(self, batch: RowBatch) -> None:
        """Releases finished sequences and keeps their text for the next turn."""
        done = [sequence for sequence in batch.active if sequence.done]
        for sequence in done:
            question = self._active.pop(sequence)
            text, length = batch.text_of(sequence)
            ids = (*question.ids, *sequence.generated)[:length]
            self._states.keep_text(question, ids, text)
        if done:
            batch.release(done)

    def _batch_of(self, sequence: DecodedSequence) -> RowBatch:
        return self._batches.setdefault(sequence.shape, RowBatch(self._engine))

    def _questions_of(self, batch: RowBatch) -> list[Question]:
        return [self._active[sequence] for sequence in batch.active]

    def _drop(self, questions: Collection[Question]) -> None:
        self._ready = [question for question in self._ready if question not in questions]
        for question in questions:
            if question.sequence is not None:
                self._active.pop(question.sequence, None)
