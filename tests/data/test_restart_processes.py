"""Tests restarts on another number of processes: every row of an epoch is read exactly once."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import grain
import numpy as np
import pytest

from xcomp_jax.data.mixture.buckets import EpochPlanner
from xcomp_jax.data.mixture.dataset import MixtureDataset
from xcomp_jax.data.padding import Example
from xcomp_jax.data.pipeline import train_batches

BATCH = 12
ROWS, BATCHES_PER_EPOCH = 96, 8
PROCESSES = (1, 2, 3, 4, 6, 12)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowNumbers(MixtureDataset):
    """A mixture of 72 videos and 24 images of different lengths; an example is its row number."""

    @classmethod
    def make(cls) -> RowNumbers:
        draw = np.random.default_rng(0)
        unused: dict[str, Any] = {"prefix": None, "reader": None, "skipped": None}
        return cls(
            samples=(),
            frames=np.concatenate([draw.integers(2, 65, 72), np.ones(24)]).astype(np.int32),
            suffix=draw.integers(1, 101, ROWS).astype(np.int32),
            weights=(1.0,),
            texts_digest="",
            **unused,
        )

    @property
    def read_options(self) -> grain.ReadOptions:
        return grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)

    def planner(self, batch_size: int, seed: int) -> EpochPlanner:
        return EpochPlanner(
            frames=self.frames,
            suffix=self.suffix,
            sets=np.zeros(ROWS, int),
            weights=self.weights,
            frame_limits=(16, 32, 64),
            suffix_limits=(25, 100),
            batch_size=batch_size,
            seed=seed,
        )

    def example(self, row: int, bucket: object) -> Example:
        del bucket
        return {"index": np.int64(row)}


def read(processes: int, first_batch: int, count: int) -> list[list[int]]:
    """Returns the rows of `count` batches, read by `processes` from `first_batch` on."""
    shares = [
        train_batches(
            RowNumbers.make(),
            batch_size=BATCH,
            seed=3,
            process_index=index,
            process_count=processes,
            examples_seen=first_batch * BATCH,
        )
        for index in range(processes)
    ]
    return [[int(row) for share in shares for row in next(share)["index"]] for _ in range(count)]


def read_with_stops(
    stops: list[int], count: Callable[[], int], *, repeated: int = 0
) -> list[list[int]]:
    """Reads two epochs, and restarts with `count()` processes after each batch of `stops`."""
    batches: list[list[int]] = []
    for start, end in zip([0, *stops], [*stops, 2 * BATCHES_PER_EPOCH], strict=True):
        batches += read(count(), max(0, start - repeated), end - start)
    return batches


@pytest.mark.parametrize("seed", range(12))
def test_restart_on_other_processes_reads_rows_once(seed: int) -> None:
    draw = random.Random(seed)
    stops = sorted(draw.sample(range(1, 2 * BATCHES_PER_EPOCH), draw.randrange(1, 5)))
    batches = read_with_stops(stops, lambda: draw.choice(PROCESSES))
    assert batches == read(1, 0, 2 * BATCHES_PER_EPOCH)
    epochs = batches[:BATCHES_PER_EPOCH], batches[BATCHES_PER_EPOCH:]
    for epoch in epochs:
        assert Counter(row for batch in epoch for row in batch) == Counter(range(ROWS))
    assert epochs[0] != epochs[1], "control: reshuffled"


def test_restart_one_batch_too_early_repeats_rows() -> None:
    """Control: the count finds rows that are read twice or never."""
    batches = read_with_stops([3], lambda: 2, repeated=1)[:BATCHES_PER_EPOCH]
    assert Counter(row for batch in batches for row in batch) != Counter(range(ROWS))
