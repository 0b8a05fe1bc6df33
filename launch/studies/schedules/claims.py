"""List the paper's claims about the conditions, and judge them by an interval over the seeds."""

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
    """A mean over seeds and its 95 % confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Verdict on the claim that the mean is above zero."""
        if self.low > 0:
            return "holds"
        return "does not hold" if self.high < 0 else "undecided"


def interval(values: Sequence[float]) -> Interval:
    """Returns Student's interval for the mean of independent values.

    Raises:
        ValueError: there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(
            f"an interval needs at least 2 seeds, and there are {len(values)}; add more to --seeds"
        )
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * deviation
    return Interval(mean, mean - half, mean + half)


@dataclasses.dataclass(frozen=True)
class Claim:
    """The paper's claim that condition `better` answers more questions correctly than `worse`."""

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
    """Returns the interval of the differences within each seed.

    Args:
        accuracy: accuracy by condition and seed, with the seeds in the same order.
    """
    pairs = zip(accuracy[claim.better], accuracy[claim.worse], strict=True)
    return interval([better - worse for better, worse in pairs])
