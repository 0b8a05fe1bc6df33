"""Near ties of token merging: choices that float noise in the features can turn.

Merging is discrete. Where two similarities are nearer than the noise of the encoder's features, two
float32 programs may choose differently, and all tokens after that choice differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from xcomp_jax.models.tome import merge_matches, merge_steps, source_similarity

_similarity = jax.jit(source_similarity, static_argnums=1)
_merge = jax.jit(merge_matches, static_argnums=4)


@dataclasses.dataclass(frozen=True)
class Step:
    """Choices of one merging step, with the gaps to the next best ones.

    best, second: [sources] most similar destinations of each source; order: [sources] in descending
    similarity; best_gap [sources], order_gap [sources - 1]: differences of similarity between best
    and second, and between neighbours in the order; best_noise, order_noise: the largest change of
    these gaps that the noise can cause.
    """

    best: np.ndarray
    second: np.ndarray
    order: np.ndarray
    best_gap: np.ndarray
    order_gap: np.ndarray
    best_noise: np.ndarray
    order_noise: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, num_heads: int, noise: float) -> Step:
        """Measures the gaps of tokens [S, D], each channel of which may be off by `noise`."""
        similarity = np.asarray(_similarity(x, num_heads), np.float64)
        ranked = np.argsort(-similarity, axis=1, kind="stable")
        best, second = ranked[:, 0], ranked[:, min(1, ranked.shape[1] - 1)]
        rows = np.arange(len(similarity))
        highest = similarity[rows, best]
        order = np.argsort(-highest, kind="stable")
        metric = x.astype(np.float64).reshape(len(x), num_heads, -1).mean(axis=1)
        length = np.linalg.norm(metric, axis=1)
        # A unit vector turns by at most this much, and a similarity changes by at most the sum of
        # its two vectors' turns.
        turn = noise * np.sqrt(metric.shape[1]) / length
        unit = metric / length[:, None]
        source, destination, target = turn[0::2], turn[1::2], unit[1::2]
        apart = np.linalg.norm(target[best] - target[second], axis=1)
        matched = source + destination[best]
        return cls(
            best=best,
            second=second,
            order=order,
            best_gap=highest - similarity[rows, second],
            order_gap=-np.diff(highest[order]),
            best_noise=source * apart + destination[best] + destination[second],
            order_noise=matched[order[:-1]] + matched[order[1:]],
        )

    def other_choices(self, merged: int) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """Yields (gap / noise, best, order) of every other choice that the noise allows.

        Args:
            merged: sources that are merged, the first of the order. The order of these has no
                effect on the result, and the match of the others none.
        """
        for source in self.order[:merged]:
            if self.second[source] != self.best[source] and (
                self.best_gap[source] <= self.best_noise[source]
            ):
                best = self.best.copy()
                best[source] = self.second[source]
                yield float(self.best_gap[source] / self.best_noise[source]), best, self.order
        for place in range(max(merged - 1, 0), len(self.order) - 1):
            if self.order_gap[place] <= self.order_noise[place]:
                order = self.order.copy()
                order[[place, place + 1]] = order[[place + 1, place]]
                yield float(self.order_gap[place] / self.order_noise[place]), self.best, order


def other_merges(
    features: np.ndarray, target: int, num_heads: int, noise: float
) -> list[tuple[float, np.ndarray]]:
    """Merges features [S, D] with one choice turned, for every choice that the noise allows.

    Returns:
        (gap / noise, merged features [target, D]) of each, the most likely choice first.
    """
    found = []
    x, size = np.asarray(features, np.float32), np.ones(len(features), np.float32)
    steps = merge_steps(len(features), target)
    for number, merged in enumerate(steps):
        step = Step.of(x, num_heads, noise)
        for ratio, best, order in step.other_choices(merged):
            other = merged_clip(x, size, best, order, merged)
            for later in steps[number + 1 :]:
                default = Step.of(other[0], num_heads, noise)
                other = merged_clip(*other, default.best, default.order, later)
            found.append((ratio, other[0]))
        x, size = merged_clip(x, size, step.best, step.order, merged)
    return sorted(found, key=lambda pair: pair[0])


def merged_clip(
    x: np.ndarray, size: np.ndarray, best: np.ndarray, order: np.ndarray, merged: int
) -> tuple[np.ndarray, np.ndarray]:
    """Merges one clip by the given choices; see `merge_matches`."""
    tokens, sizes = _merge(x, size, best, np.argsort(order), merged)
    return np.asarray(tokens), np.asarray(sizes)
