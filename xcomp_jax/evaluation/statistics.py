"""Uncertainty of scores and of differences between two runs.

Questions about the same video are not independent, so that the plain standard error is too small;
the cluster-robust one and the bootstrap take whole videos as units. Scores lie in [0, 1].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
"""Confidence level of every interval."""

RESAMPLES = 4000


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval with confidence level `LEVEL`."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean score and its uncertainty.

    Attributes:
        error: standard error if questions were independent; of 0/1 scores sqrt(p (1 - p) / n).
        clustered_error: standard error with videos as clusters.
        interval: bootstrap over videos.
    """

    mean: float
    questions: int
    videos: int
    error: float
    clustered_error: float
    interval: Interval


def estimate(
    scores: ArrayLike, videos: Sequence[Hashable], *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Estimates the mean of `scores` [N]; `videos` [N] names each question's video.

    Raises:
        ValueError: no scores, or another number of videos.
    """
    values = _scores(scores)
    clusters = cluster_numbers(videos, len(values))
    return Estimate(
        mean=float(values.mean()),
        questions=len(values),
        videos=int(clusters.max()) + 1,
        error=standard_error(values),
        clustered_error=clustered_error(values, clusters),
        interval=bootstrap_interval(values, clusters, seed=seed, resamples=resamples),
    )


def standard_error(scores: ArrayLike) -> float:
    """Returns the standard deviation (divisor N) over sqrt(N): for 0/1 scores the binomial one."""
    values = _scores(scores)
    return float(values.std() / math.sqrt(len(values)))


def clustered_error(scores: ArrayLike, clusters: ArrayLike) -> float:
    """Returns the cluster-robust standard error of a mean (arXiv 2411.00640, equation 4).

    The square root of the sum, over clusters, of the squared sum of residuals, divided by N. With
    one question per cluster it equals `standard_error`.
    """
    values = _scores(scores)
    numbers = cluster_numbers(np.asarray(clusters).tolist(), len(values))
    sums = np.bincount(numbers, values - values.mean())
    return float(np.sqrt(np.sum(sums**2)) / len(values))


def macro_error(groups: Sequence[tuple[ArrayLike, Sequence[Hashable]]]) -> float:
    """Returns the cluster-robust standard error of a mean of group means.

    Args:
        groups: scores [N] and videos [N] of each group; a video may occur in several.
    """
    sums: dict[Hashable, float] = {}
    for scores, videos in groups:
        values = _scores(scores)
        for video, residual in zip(videos, values - values.mean(), strict=True):
            sums[video] = sums.get(video, 0.0) + residual / (len(values) * len(groups))
    return math.sqrt(sum(value**2 for value in sums.values()))


def bootstrap_interval(
    scores: ArrayLike, clusters: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Resamples whole clusters and returns percentiles of the mean over their questions.

    The percentiles lie further out the fewer clusters there are ("expanded percentile interval",
    Hesterberg, arXiv 1411.5279): plain ones miss the mean of ten videos about twice as often.
    """
    values = _scores(scores)
    numbers = cluster_numbers(np.asarray(clusters).tolist(), len(values))
    sums, sizes = np.bincount(numbers, values), np.bincount(numbers)
    counts = _resampled_counts(len(sizes), seed, resamples)
    tail = _expanded_tail(len(sizes))
    low, high = np.quantile((counts @ sums) / (counts @ sizes), [tail, 1 - tail])
    return Interval(float(low), float(high))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Difference of two runs on the same questions, second minus first.

    Attributes:
        only_first, only_second: questions that one run alone answers right.
        mcnemar_p: exact two-sided McNemar test, which treats questions as independent.
        clustered_error: cluster-robust standard error of the difference.
        interval: paired bootstrap over videos.
    """

    difference: float
    only_first: int
    only_second: int
    mcnemar_p: float
    clustered_error: float
    interval: Interval


def compare(
    first: ArrayLike,
    second: ArrayLike,
    videos: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compares two runs by their scores [N] of the same questions in the same order.

    Raises:
        ValueError: the lengths differ, or there are no questions.
    """
    a, b = _scores(first), _scores(second)
    if len(a) != len(b):
        raise ValueError(f"the runs have {len(a)} and {len(b)} scores; compare the same questions")
    clusters = cluster_numbers(videos, len(a))
    only_first, only_second = int(np.sum(a > b)), int(np.sum(b > a))
    return Comparison(
        difference=float(np.mean(b - a)),
        only_first=only_first,
        only_second=only_second,
        mcnemar_p=mcnemar(only_first, only_second),
        clustered_error=clustered_error(b - a, clusters),
        interval=bootstrap_interval(b - a, clusters, seed=seed, resamples=resamples),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided p-value of the exact McNemar test; 1 without a differing question."""
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0


def questions_needed(
    difference: float,
    *,
    accuracy: float = 0.5,
    correlation: float = 0.5,
    power: float = 0.8,
    cluster_size: float = 1.0,
    cluster_correlation: float = 0.0,
) -> int:
    """Returns how many questions show a difference of two runs on the same questions.

    Normal approximation with a two-sided test at 1 - `LEVEL`.

    Args:
        difference: accuracy gained, as a share: 0.03 for three points.
        accuracy: accuracy of the first run.
        correlation: correlation of the two runs' scores over questions; 0 for different questions.
        power: probability to find the difference.
        cluster_size: mean number of questions per video.
        cluster_correlation: correlation of scores (of differences) within a video.

    Raises:
        ValueError: a value is out of its range.
    """
    if not 0 < difference <= 1:
        raise ValueError(f"{difference=} must lie in (0, 1]")
    if not 0 <= accuracy <= 1 - difference:
        raise ValueError(f"{accuracy=} must lie in [0, {1 - difference:g}], 1 minus the difference")
    if not 0 < power < 1 or not -1 <= correlation < 1 or not 1 <= cluster_size < math.inf:
        raise ValueError(
            f"{power=} must lie in (0, 1), {correlation=} in [-1, 1) and {cluster_size=} from 1"
        )
    if not 0 <= cluster_correlation <= 1:
        raise ValueError(f"{cluster_correlation=} must lie in [0, 1]")
    second = accuracy + difference
    spread, other = math.sqrt(accuracy * (1 - accuracy)), math.sqrt(second * (1 - second))
    variance = spread**2 + other**2 - 2 * correlation * spread * other
    variance *= 1 + (cluster_size - 1) * cluster_correlation
    quantiles = stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(power)
    return math.ceil(variance * (quantiles / difference) ** 2)


def cluster_numbers(names: Sequence[Hashable], length: int) -> NDArray[np.int64]:
    """Numbers the distinct names from 0 in order of appearance.

    Raises:
        ValueError: the number of names is not `length`.
    """
    if len(names) != length:
        raise ValueError(f"{length} scores, but {len(names)} videos; pass one video per score")
    numbers = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"scores have shape {values.shape}; pass a list of at least one score")
    return values


def _resampled_counts(clusters: int, seed: int, resamples: int) -> NDArray[np.int64]:
    """Returns [resamples, clusters]: how often each cluster is drawn."""
    return np.random.default_rng(seed).multinomial(
        clusters, np.full(clusters, 1 / clusters), size=resamples
    )


def _expanded_tail(clusters: int) -> float:
    """Returns the probability below the interval of a bootstrap over that many clusters."""
    tail = (1 - LEVEL) / 2
    if clusters == 1:
        return tail  # all resamples are equal
    quantile = stats.t.ppf(tail, clusters - 1) * math.sqrt(clusters / (clusters - 1))
    return float(stats.norm.cdf(quantile))
