"""What the paper says of the conditions, and what the seeds say of that."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from scipy.stats import t as student

Verdict = Literal["holds", "does not hold", "undecided"]
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean over seeds and its confidence interval, in the unit of what was averaged."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """On the claim that the mean is above zero."""
        if self.low > 0:
            return "holds"
        return "does not hold" if self.high < 0 else "undecided"


def interval(values: Sequence[float]) -> Interval:
    """Student's interval for the mean of independent values.

    Raises:
        ValueError: fewer than two values, which say nothing about their spread.
    """
    if len(values) < 2:
        raise ValueError(
            f"{len(values)} seed(s) give no interval, at least 2 are needed: name more in --seeds"
        )
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * deviation
    return Interval(mean, mean - half, mean + half)


@dataclasses.dataclass(frozen=True)
class Claim:
    """Names of two conditions, of which the first is said to answer more questions."""

    better: str
    worse: str


CLAIMS = (
    Claim("learned_progressive", "learned_stepwise"),
    Claim("learned_stepwise", "free_stepwise"),
    Claim("learned_stepwise", "free_progressive"),
    Claim("learned_stepwise", "free_ranked"),
    Claim("learned_progressive", "learned_uniform"),
)


def paired(claim: Claim, accuracy: Mapping[str, Sequence[float]]) -> Interval:
    """The difference within each seed, over the seeds.

    Args:
        accuracy: of each condition, seed by seed in one order.
    """
    pairs = zip(accuracy[claim.better], accuracy[claim.worse], strict=True)
    return interval([better - worse for better, worse in pairs])
