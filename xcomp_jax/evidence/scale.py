"""Maps scores to heights between 0 and 1."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Scale:
    """Lowest and highest finite score of a video."""

    low: float
    high: float

    def level(self, score: float) -> float:
        """Returns 0 for the lowest score, 1 for the highest, and 0.5 if all are equal.

        Attention scores differ little in absolute terms; a scale from zero would look flat.
        """
        return (score - self.low) / (self.high - self.low) if self.high > self.low else 0.5


def scale_of(scores: Iterable[float] | None) -> Scale | None:
    """Returns the scale of all finite scores; None if there are none."""
    finite = [score for score in scores or () if math.isfinite(score)]
    return Scale(min(finite), max(finite)) if finite else None
