"""Tests of standard errors, intervals and comparisons: values by hand, coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from xcomp_jax.evaluation import statistics
from xcomp_jax.evaluation.statistics import (
    LEVEL,
    clustered_error,
    compare,
    estimate,
    macro_error,
    mcnemar,
    questions_needed,
    standard_error,
)


def simulated_scores(
    rng: np.random.Generator, videos: int = 100
) -> tuple[NDArray[np.float64], list[int]]:
    """Draws 0/1 scores of mean 0.5 that agree within a video, 5 to 24 questions each."""
    names = np.repeat(np.arange(videos), rng.integers(5, 25, size=videos))
    difficulty = rng.beta(2, 2, size=videos)
    return (rng.random(len(names)) < difficulty[names]).astype(float), names.tolist()


def test_standard_error_published_scores_binomial() -> None:
    for percent, questions, error in ((46.2, 1492, 1.29), (66.7, 2175, 1.01), (45.6, 900, 1.66)):
        right = round(percent / 100 * questions)
        scores = np.r_[np.ones(right), np.zeros(questions - right)]
        assert 100 * standard_error(scores) == pytest.approx(error, abs=0.005)


def test_clustered_error_two_clusters_by_hand() -> None:
    scores = [1, 1, 1, 0, 0, 0]
    # Residuals 0.5 and -0.5; sums 1.5 and -1.5; sqrt(2 * 1.5 ** 2) / 6.
    assert clustered_error(scores, ["a", "a", "a", "b", "b", "b"]) == pytest.approx(
        math.sqrt(4.5) / 6
    )
    single = clustered_error(scores, range(6))
    assert single == pytest.approx(standard_error(scores))
    # Videos that are never right or wrong as a whole have a smaller error than independent ones.
    assert clustered_error(scores, ["a", "b", "c", "a", "b", "c"]) == 0


def test_macro_error_groups_by_hand() -> None:
    first, second = [1.0, 0.0], [1.0, 1.0, 0.0, 0.0]
    # Six videos: half of the root of the summed squares of both groups' errors.
    apart = macro_error([(first, ["a", "b"]), (second, ["c", "d", "e", "f"])])
    errors = standard_error(first), standard_error(second)
    assert apart == pytest.approx(math.hypot(*errors) / 2)
    assert macro_error([(second, ["a", "b", "a", "b"])]) == clustered_error(second, [0, 1, 0, 1])
    # Video a adds 0.5 / 4 + 2 * 0.5 / 8, video b the opposite.
    shared = macro_error([(first, ["a", "b"]), (second, ["a", "a", "b", "b"])])
    assert shared == pytest.approx(math.sqrt(2) * 0.25)


def test_bootstrap_equal_scores_of_uneven_videos_exact() -> None:
    interval = estimate([0.5] * 6, ["a", "a", "a", "a", "b", "c"]).interval
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_intervals_simulated_videos_cover_level() -> None:
    rng = np.random.default_rng(3)
    runs = 600
    bootstrap = clustered = plain = 0
    for run in range(runs):
        scores, videos = simulated_scores(rng)
        result = estimate(scores, videos, seed=run, resamples=500)
        bootstrap += result.interval.low <= 0.5 <= result.interval.high
        clustered += abs(result.mean - 0.5) <= 1.96 * result.clustered_error
        plain += abs(result.mean - 0.5) <= 1.96 * result.error
    assert abs(bootstrap / runs - LEVEL) <= 0.02
    assert abs(clustered / runs - LEVEL) <= 0.02
    assert plain / runs < LEVEL - 0.1  # Control: questions of a video are not independent.


@pytest.mark.parametrize("expanded", [True, False])
def test_interval_of_ten_videos_covers_level(
    expanded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not expanded:
        monkeypatch.setattr(statistics, "_expanded_tail", lambda clusters: (1 - LEVEL) / 2)
    rng = np.random.default_rng(5)
    runs, covered = 600, 0
    for run in range(runs):
        scores, videos = simulated_scores(rng, videos=10)
        interval = estimate(scores, videos, seed=run, resamples=500).interval
        covered += interval.low <= 0.5 <= interval.high
    assert (abs(covered / runs - LEVEL) <= 0.02) == expanded


def test_paired_interval_simulated_runs_cover_level() -> None:
    rng = np.random.default_rng(4)
    runs, gain, covered = 600, 0.05, 0
    for run in range(runs):
        first, videos = simulated_scores(rng, videos=60)
        second = np.where((first == 0) & (rng.random(len(first)) < 2 * gain), 1.0, first)
        interval = compare(first, second, videos, seed=run, resamples=500).interval
        covered += interval.low <= gain <= interval.high
    assert abs(covered / runs - LEVEL) <= 0.02


def test_mcnemar_textbook_values() -> None:
    # Exact test of 121 against 59 discordant pairs, and small ones by hand: 2 * 0.5 ** 5.
    assert mcnemar(121, 59) == pytest.approx(4.434e-06, rel=1e-3)
    assert mcnemar(0, 5) == pytest.approx(0.0625)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0


def test_compare_runs_by_construction() -> None:
    first = [1] * 40 + [0] * 60
    second = [1] * 30 + [0] * 10 + [1] * 20 + [0] * 40
    result = compare(first, second, list(range(100)))
    assert (result.only_first, result.only_second) == (10, 20)
    assert result.difference == pytest.approx(0.1)
    assert result.mcnemar_p == pytest.approx(0.0987, abs=1e-4)
    # Variance of the differences 30 / 100 - 0.1 ** 2.
    assert result.clustered_error == pytest.approx(math.sqrt(0.29 / 100))
    assert result.interval.low == pytest.approx(0.1 - 1.96 * math.sqrt(0.0029), abs=0.01)


def test_questions_needed_simulated_power_reached() -> None:
    questions = questions_needed(0.05, accuracy=0.5, correlation=0.0)
    assert questions == pytest.approx(1565, abs=3)  # Fleiss: two shares, 0.50 against 0.55.
    assert questions_needed(0.05, correlation=0.5) == pytest.approx(questions / 2, rel=0.01)
    # Videos of 15 questions with a correlation of 0.1: 1 + 14 * 0.1 times as many.
    clustered = questions_needed(0.05, correlation=0.0, cluster_size=15, cluster_correlation=0.1)
    assert clustered == pytest.approx(2.4 * questions, rel=0.01)
    rng = np.random.default_rng(5)
    found, runs = 0, 400
    for _ in range(runs):
        first, second = (rng.random(questions) < share for share in (0.5, 0.55))
        error = math.hypot(standard_error(first), standard_error(second))
        found += abs(second.mean() - first.mean()) > 1.96 * error
    assert abs(found / runs - 0.8) < 0.06


def test_statistics_invalid_input_refused() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        estimate([], [])
    with pytest.raises(ValueError, match="3 scores, but 2 videos"):
        estimate([1, 0, 1], ["a", "b"])
    with pytest.raises(ValueError, match="compare the same questions"):
        compare([1, 0], [1], ["a", "b"])
    with pytest.raises(ValueError, match=r"difference=0 must lie in \(0, 1\]"):
        questions_needed(0)
    for accuracy in (0.98, -0.1, 1.2, math.nan):
        with pytest.raises(ValueError, match=r"accuracy=.* must lie in \[0, 0\.97\]"):
            questions_needed(0.03, accuracy=accuracy)
    for correlation in (-2.0, 5.0, math.nan):
        with pytest.raises(ValueError, match=r"cluster_correlation=.* must lie in"):
            questions_needed(0.03, cluster_size=3, cluster_correlation=correlation)
