"""Plans which rows form which batch of an epoch; pure functions of row lengths.

Every process computes the same plan from the same lengths, so that all processes build equal shapes
for the same batch without communication, and any epoch can be planned without the earlier ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Padded lengths of the examples of a batch: frames, and text tokens after the video."""

    frames: int
    suffix: int


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch.

    rows: int [num_batches, batch_size], rows of the dataset.
    buckets: the bucket of every batch.
    """

    rows: np.ndarray
    buckets: tuple[Bucket, ...]


def halvings(largest: int, count: int, *, multiple: int) -> tuple[int, ...]:
    """Halves `largest` up to `count - 1` times, ascending: (1024, 4) gives 128, 256, 512, 1024.

    All but the largest are rounded up to multiples of `multiple`.
    """
    halves = (-(-(largest >> i) // multiple) * multiple for i in range(1, count))
    return tuple(sorted({largest, *(half for half in halves if 0 < half < largest)}))


def limit_index(lengths: np.ndarray, limits: Sequence[int]) -> np.ndarray:
    """Returns the index of the smallest of the ascending `limits` that holds each length.

    Raises:
        ValueError: a length is above the largest limit.
    """
    indices = np.searchsorted(np.asarray(limits), lengths)
    if (indices == len(limits)).any():
        raise ValueError(
            f"a length of {int(np.max(lengths))} is above the largest bucket of {tuple(limits)}; "
            "add a larger bucket"
        )
    return indices


class EpochPlanner:
    """Plans epochs over rows of known lengths.

    Images (one frame) and videos never share a batch, because the encoder treats an image as a clip
    of its own. Rows of each kind go to the smallest bucket that holds them; rows that do not fill a
    batch move to the next larger bucket. The remaining rows, fewer than a batch of images and one
    of videos, are dropped; every epoch drops other rows (the published run dropped 23 of 71,927).

    Args:
        frames, suffix: [N] lengths of every row.
        sets: [N] set number of every row.
        weights: passes over each set per epoch. A set of n rows gives round(weight * n) rows; the
            next epoch continues a pass that is not complete.
        frame_limits, suffix_limits: bucket lengths, ascending; images have buckets of one frame.

    Raises:
        ValueError: there are no rows, the images or the videos do not fill one batch and would
            never be trained on, or a length is above the largest bucket.
    """

    def __init__(
        self,
        *,
        frames: np.ndarray,
        suffix: np.ndarray,
        sets: np.ndarray,
        weights: Sequence[float],
        frame_limits: Sequence[int],
        suffix_limits: Sequence[int],
        batch_size: int,
        seed: int,
    ) -> None:
        self._batch_size, self._seed = batch_size, seed
        self._frame_limits = (1, *(limit for limit in frame_limits if limit > 1))
        self._suffix_limits = tuple(suffix_limits)
        self._frame_index = limit_index(frames, self._frame_limits)
        self._suffix_index = limit_index(suffix, self._suffix_limits)
        self._is_image = frames == 1
        # Strata keep the number of rows of each kind equal in all epochs.
        self._strata = [
            (rows, max(1, round(weights[number] * len(rows))))
            for number in np.unique(sets)
            for kind in (True, False)
            if len(rows := np.flatnonzero((sets == number) & (self._is_image == kind)))
        ]
        counts = {False: 0, True: 0}
        for rows, count in self._strata:
            counts[bool(self._is_image[rows[0]])] += count
        self.batches_per_epoch = sum(count // batch_size for count in counts.values())
        self.rows_per_epoch = sum(counts.values())
        short = [
            f"the {count} {'images' if is_image else 'videos'}"
            for is_image, count in counts.items()
            if 0 < count < batch_size or not self.rows_per_epoch
        ]
        if short:
            raise ValueError(
                f"{batch_size=} is more than {' and '.join(short)} of an epoch, which would never "
                "be trained on, because images and videos do not share a batch. Use a smaller "
                "batch or a larger share of the mixture, raise the weight of their sets, or remove "
                "them"
            )

    def plan(self, epoch: int) -> EpochPlan:
        """Returns all batches of one epoch, in training order."""
        rng = np.random.default_rng([self._seed, epoch, 0])
        order = rng.permutation(
            np.concatenate([self._draw(i, epoch) for i in range(len(self._strata))])
        )
        batches: list[tuple[Bucket, np.ndarray]] = []
        for kind in (True, False):
            batches += self._batches(order[self._is_image[order] == kind])
        shuffled = [batches[i] for i in rng.permutation(len(batches))]
        return EpochPlan(
            rows=np.stack([rows for _, rows in shuffled]),
            buckets=tuple(bucket for bucket, _ in shuffled),
        )

    def _draw(self, stratum: int, epoch: int) -> np.ndarray:
        """Returns an epoch's rows of a stratum: a part of its endless stream of shuffled passes."""
        rows, count = self._strata[stratum]
        first, last = epoch * count, (epoch + 1) * count
        passes = [
            np.random.default_rng([self._seed, number, 1, stratum]).permutation(rows)
            for number in range(first // len(rows), -(-last // len(rows)))
        ]
        offset = first // len(rows) * len(rows)
        return np.concatenate(passes)[first - offset : last - offset]

    def _batches(self, order: np.ndarray) -> list[tuple[Bucket, np.ndarray]]:
        """Forms batches from shuffled rows of one kind."""
        size = self._batch_size
        order = order[: len(order) // size * size]
        batches: list[tuple[Bucket, np.ndarray]] = []
        remaining = order[:0]
        for i, num_frames in enumerate(self._frame_limits):
            remaining_texts = order[:0]
            for j, num_tokens in enumerate(self._suffix_limits):
                in_bucket = (self._frame_index[order] == i) & (self._suffix_index[order] == j)
                rows = np.concatenate([remaining_texts, order[in_bucket]])
                if j == len(self._suffix_limits) - 1:
                    # Rows from smaller frame buckets may have texts of any length.
                    rows = np.concatenate([remaining, rows])
                whole = len(rows) // size * size
                bucket = Bucket(num_frames, num_tokens)
                batches += [(bucket, batch) for batch in rows[:whole].reshape(-1, size)]
                remaining_texts = rows[whole:]
            remaining = remaining_texts
        assert not len(remaining), "the number of rows is a multiple of the batch size"
        return batches
