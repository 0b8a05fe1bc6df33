"""Which examples make up which batch of an epoch: pure functions of numbers.

Every process computes the same plan from the same lengths, so that all of them build the same
shapes for the same batch without talking to each other, and any batch of any epoch is known without
the ones before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Bucket:
    """What the examples of a batch are padded to: frames, and text tokens after the video."""

    frames: int
    suffix: int


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """rows: [batches, batch_size] rows of the set; buckets: [batches], one for each batch."""

    rows: np.ndarray
    buckets: tuple[Bucket, ...]


def halvings(largest: int, count: int, *, multiple: int) -> tuple[int, ...]:
    """`largest` halved up to `count - 1` times, ascending: (1024, 4) gives 128, 256, 512, 1024.

    All but the largest are rounded up to whole multiples.
    """
    halves = (-(-(largest >> i) // multiple) * multiple for i in range(1, count))
    return tuple(sorted({largest, *(half for half in halves if 0 < half < largest)}))


def place_in(lengths: np.ndarray, limits: Sequence[int]) -> np.ndarray:
    """The number of the smallest of the ascending `limits` that holds each length.

    Raises:
        ValueError: a length is above the largest limit.
    """
    places = np.searchsorted(np.asarray(limits), lengths)
    if (places == len(limits)).any():
        raise ValueError(
            f"a length of {int(np.max(lengths))} is above the largest bucket of {tuple(limits)}; "
            "add one that holds it"
        )
    return places


class EpochPlanner:
    """Plans epochs over rows of known lengths.

    Images (one frame) and videos never share a batch: the encoder sees an image as a clip of its
    own. Within each, rows go to the smallest bucket that holds them, and what does not fill a batch
    moves on to the next larger one. The rows left over in the end, fewer than a batch of images and
    one of videos, are others in every epoch (the published run left out 23 of 71,927).

    Args:
        frames, suffix: [N] lengths of every row.
        sets: [N] number of the set of every row.
        weights: passes over each set in an epoch. A set of n rows gives round(weight * n); where
            that is no whole number of passes, the next epoch goes on with the rest.
        frame_limits, suffix_limits: the buckets, ascending; images have buckets of one frame.

    Raises:
        ValueError: images or videos that fill no batch, so that they would never be learnt from; no
            rows at all; or a length above the largest bucket.
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
        self._frame_place = place_in(frames, self._frame_limits)
        self._suffix_place = place_in(suffix, self._suffix_limits)
        image = frames == 1
        # Strata, so that every epoch has the same number of rows of each kind.
        self._strata = [
            (rows, max(1, round(weights[number] * len(rows))))
            for number in np.unique(sets)
            for kind in (True, False)
            if len(rows := np.flatnonzero((sets == number) & (image == kind)))
        ]
        self._image = image
        counts = {False: 0, True: 0}
        for rows, count in self._strata:
            counts[bool(image[rows[0]])] += count
        self.batches_per_epoch = sum(count // batch_size for count in counts.values())
        self.rows_per_epoch = sum(counts.values())
        short = [
            f"the {count} {'images' if is_image else 'videos'}"
            for is_image, count in counts.items()
            if 0 < count < batch_size or not self.rows_per_epoch
        ]
        if short:
            raise ValueError(
                f"{batch_size=} is more than {' and '.join(short)} of an epoch. Images and videos "
                "never share a batch, so these would never be learnt from; take a smaller batch or "
                "a larger part of the mixture, raise the weight of their sets, or take them out"
            )

    def plan(self, epoch: int) -> EpochPlan:
        """All batches of one epoch, in training order."""
        rng = np.random.default_rng([self._seed, epoch, 0])
        order = rng.permutation(
            np.concatenate([self._drawn(i, epoch) for i in range(len(self._strata))])
        )
        batches: list[tuple[Bucket, np.ndarray]] = []
        for kind in (True, False):
            batches += self._batches(order[self._image[order] == kind])
        shuffled = [batches[i] for i in rng.permutation(len(batches))]
        return EpochPlan(
            rows=np.stack([rows for _, rows in shuffled]),
            buckets=tuple(bucket for bucket, _ in shuffled),
        )

    def _drawn(self, stratum: int, epoch: int) -> np.ndarray:
        """Rows of a stratum in an epoch: a part of its endless stream of shuffled passes."""
        rows, count = self._strata[stratum]
        first, last = epoch * count, (epoch + 1) * count
        passes = [
            np.random.default_rng([self._seed, number, 1, stratum]).permutation(rows)
            for number in range(first // len(rows), -(-last // len(rows)))
        ]
        skipped = first // len(rows) * len(rows)
        return np.concatenate(passes)[first - skipped : last - skipped]

    def _batches(self, order: np.ndarray) -> list[tuple[Bucket, np.ndarray]]:
        """Batches of rows of one kind, given in random order."""
        size = self._batch_size
        order = order[: len(order) // size * size]
        made: list[tuple[Bucket, np.ndarray]] = []
        carried = order[:0]
        for i, num_frames in enumerate(self._frame_limits):
            left = order[:0]
            for j, num_tokens in enumerate(self._suffix_limits):
                here = (self._frame_place[order] == i) & (self._suffix_place[order] == j)
                rows = np.concatenate([left, order[here]])
                if j == len(self._suffix_limits) - 1:
                    # What smaller buckets of frames left over may be of any length of text.
                    rows = np.concatenate([carried, rows])
                whole = len(rows) // size * size
                bucket = Bucket(num_frames, num_tokens)
                made += [(bucket, batch) for batch in rows[:whole].reshape(-1, size)]
                left = rows[whole:]
            carried = left
        assert not len(carried), "the number of rows is a multiple of the batch size"
        return made
