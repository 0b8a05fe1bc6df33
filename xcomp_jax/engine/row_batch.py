"""Decodes many sequences as one batch that sequences join and leave between calls.

Sequences whose caches have the same shape share a batch. Its number of rows is a power of four, so
that a single sequence does not pay for sixteen and few programs are compiled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xcomp_jax import account
from xcomp_jax.engine import programs, row_programs
from xcomp_jax.engine.batches import SUFFIX_UNIT
from xcomp_jax.engine.buckets import bucket
from xcomp_jax.engine.engine import CAPACITY_UNIT, Engine
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.engine.row_programs import Rows, RowSettings
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache

MAX_ROWS = 16
"""Rows of a batch, and sequences per admission."""

MAX_STEPS = 8
"""Tokens per call: enough to hide the time between calls, few enough to let rows join soon."""

Cache = tuple[LayerGroupCache, ...]


@dataclasses.dataclass(eq=False)
class DecodedSequence:
    """One sequence to decode.

    cache: KV cache of its video, in row 0; ids: text to append.
    text, text_length: text cache of earlier turns about the same video, and its real tokens.
    generated: tokens so far, end token included; done: no further token follows.
    """

    cache: Cache
    ids: Sequence[int]
    generation: GenerationConfig
    seed: int = 0
    text: TextCache | None = None
    text_length: int = 0
    generated: list[int] = dataclasses.field(default_factory=list)
    done: bool = False

    @property
    def capacity(self) -> int:
        """Room that the text needs, rounded up to a bucket."""
        new = self.padded_ids + self.generation.max_new_tokens
        return bucket(self.text_length + new, CAPACITY_UNIT)

    @property
    def padded_ids(self) -> int:
        """Bucket of the new text; sequences of one admission share it."""
        return bucket(len(self.ids), SUFFIX_UNIT)

    @property
    def shape(self) -> Hashable:
        """Key of the batches that this sequence can join."""
        return self.capacity, tuple(group.key.shape[2:] for group in self.cache)


def row_bucket(count: int, multiple: int = 1) -> int:
    """Returns the number of rows of a batch that holds `count` sequences: 1, 4 or 16."""
    rows = next(size for size in (1, 4, MAX_ROWS) if size >= count)
    return -(-rows // multiple) * multiple


class RowBatch:
    """Decodes up to `MAX_ROWS` sequences of one shape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache: Cache | None = None
        self._rows: Rows | None = None
        self.sequences: list[DecodedSequence | None] = []

    @property
    def num_free(self) -> int:
        """Number of sequences that can join."""
        return MAX_ROWS - sum(sequence is not None for sequence in self.sequences)

    @property
    def active(self) -> list[DecodedSequence]:
        """Sequences that are being decoded."""
        return [sequence for sequence in self.sequences if sequence is not None]

    def admit(self, sequences: Sequence[DecodedSequence]) -> None:
        """Appends the text of new sequences and generates the first token of each.

        Args:
            sequences: of equal `shape`, that of the batch, and equal `padded_ids`.
        """
        assert 0 < len(sequences) <= self.num_free
        assert len({(sequence.shape, sequence.padded_ids) for sequence in sequences}) == 1
        with account.measure("extend text"), self._engine.placement.scope():
            cache, rows = self._admitted(sequences)
            count = row_bucket(len(sequences), self._engine.placement.batch_multiple)
            slots: list[DecodedSequence | None] = [*sequences, *[None] * (count - len(sequences))]
            if not self.active:
                self._cache, self._rows, self.sequences = cache, rows, slots
            else:
                self._resize(len(self.active) + len(sequences))
                free = [i for i, sequence in enumerate(self.sequences) if sequence is None]
                index = np.full(count, len(self.sequences), np.int32)
                index[: len(sequences)] = free[: len(sequences)]
                assert self._cache is not None
                assert self._rows is not None
                self._cache, self._rows = row_programs.place(
                    self._cache, self._rows, cache, rows, index
                )
                for slot, sequence in zip(free, sequences, strict=False):
                    self.sequences[slot] = sequence
            tokens, done = jax.device_get((rows.token, rows.done))
        account.count("text rows", sum(len(sequence.ids) for sequence in sequences))
        for i, sequence in enumerate(sequences):
            sequence.generated.append(int(tokens[i]))
            sequence.done = bool(done[i])

    def decode(self, steps: int = MAX_STEPS) -> None:
        """Generates up to `steps` tokens for every sequence that is not done."""
        assert self._cache is not None
        assert self._rows is not None
        engine = self._engine
        with account.measure("generate"), engine.placement.scope():
            self._rows, tokens, count = row_programs.decode(
                engine.model,
                engine.params,
                self._cache,
                self._rows,
                np.int32(min(steps, MAX_STEPS)),
                self._eos_ids(),
                max_steps=MAX_STEPS,
            )
            tokens, count, done = jax.device_get((tokens, count, self._rows.done))
        for slot, sequence in enumerate(self.sequences):
            if sequence is not None and not sequence.done:
                sequence.generated.extend(map(int, tokens[slot, : count[slot]]))
                sequence.done = bool(done[slot])

    def text_of(self, sequence: DecodedSequence) -> tuple[TextCache, int]:
        """Returns the text cache of a sequence that is still in the batch, and its real tokens.

        It holds the text and all generated tokens but the last.
        """
        assert self._rows is not None
        slot = self.sequences.index(sequence)
        with self._engine.placement.scope():
            text = row_programs.text_of(self._rows, np.int32(slot))
        return text, sequence.text_length + len(sequence.ids) + len(sequence.generated) - 1

    def release(self, sequences: Sequence[DecodedSequence]) -> None:
        """Removes sequences, done or not; shrinks the batch when few remain.

        The row of one that is not done goes on unread until another takes its place.
        """
        for sequence in sequences:
            self.sequences[self.sequences.index(sequence)] = None
        if not self.active:
            self._cache = self._rows = None
            self.sequences = []
            return
        self._resize(len(self.active))

    def _resize(self, count: int) -> None:
        """Moves the active rows to a batch for `count` sequences, if that has another size."""
        size = row_bucket(count, self._engine.placement.batch_multiple)
        if size == len(self.sequences):
            return
        active = [i for i, sequence in enumerate(self.sequences) if sequence is not None]
        index = np.full(size, active[0], np.int32)
        index[: len(active)] = active
        done = np.arange(size) >= len(active)
        assert self._cache is not None
        assert self._rows is not None
        with self._engine.placement.scope():
            self._cache, self._rows = row_programs.take(self._cache, self._rows, index, done)
        self.sequences = [
            *(self.sequences[i] for i in active),
            *[None] * (size - len(active)),
        ]

    def _admitted(self, sequences: Sequence[DecodedSequence]) -> tuple[Cache, Rows]:
        engine = self._engine
        padding = row_bucket(len(sequences), engine.placement.batch_multiple) - len(sequences)
        padded = [*sequences, *[sequences[-1]] * padding]
        capacity = sequences[0].capacity
        ids = np.zeros((len(padded), sequences[0].padded_ids), np.int32)
        for row, sequence in zip(ids, padded, strict=True):
            row[: len(sequence.ids)] = sequence.ids
        empty = None
        texts = []
        for sequence in padded:
            if sequence.text is None:
                if empty is None:
                    empty = programs.empty_text_cache(engine.model, engine.params, 1, capacity)
                texts.append(empty)
            else:
                texts.append(_resized(sequence.text, capacity))

        def column(values: list[Any], dtype: Any) -> Any:
            return np.array(values, dtype)

        generations = [sequence.generation for sequence in padded]
        remaining = [generation.max_new_tokens for generation in generations]
        # Padding rows end after their first token.
        remaining[len(sequences) :] = [1] * padding
        return row_programs.admit(
            engine.model,
            engine.params,
            tuple(sequence.cache for sequence in padded),
            tuple(texts),
            ids,
            column([len(sequence.ids) for sequence in padded], np.int32),
            column([sequence.text_length for sequence in padded], np.int32),
            column(remaining, np.int32),
            column([sequence.seed for sequence in padded], np.uint32),
            RowSettings(
                temperature=column([g.temperature for g in generations], np.float32),
                top_p=column([g.top_p for g in generations], np.float32),
                top_k=column([g.top_k for g in generations], np.int32),
                penalty=column([g.repetition_penalty for g in generations], np.float32),
            ),
            self._eos_ids(sequences[0]),
        )

    def _eos_ids(self, sequence: DecodedSequence | None = None) -> np.ndarray:
        """Returns the end tokens, which all sequences share; at least one entry."""
        sequence = sequence or self.active[0]
        return np.array(sequence.generation.eos_token_ids or (-1,), np.int32)


def _resized(text: TextCache, capacity: int) -> TextCache:
    """Pads or cuts a text cache to `capacity` tokens."""
    present = text.key.shape[2]
    if present == capacity:
        return text

    def resize(leaf: np.ndarray) -> np.ndarray:
        widths = ((0, 0), (0, 0), (0, max(capacity - present, 0)), (0, 0), (0, 0))
        return np.pad(leaf[:, :, :capacity], widths)

    return jax.tree.map(lambda leaf: jnp.asarray(resize(leaf)), jax.device_get(text))
