"""From scores to heights."""

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
        """0 for the lowest score, 1 for the highest; one half where all are equal.

        Attention hardly differs in absolute terms between frames, so that a scale from zero would
        show a flat line.
        """
        return (score - self.low) / (self.high - self.low) if self.high > self.low else 0.5


def scale_of(scores: Iterable[float] | None) -> Scale | None:
    """The scale of all finite scores; None where there are none."""
    finite = [score for score in scores or () if math.isfinite(score)]
    return Scale(min(finite), max(finite)) if finite else None
