"""Estimates the duration of a run from its first videos, whose rows are kept."""

from __future__ import annotations

from collections.abc import Callable

from xcomp_jax.evaluation.grouping import VideoGroup
from xcomp_jax.evidence.wording import duration_text

WARM_UP = 2
"""Videos that are measured, after one whose time contains compilation."""


class MeasuredRate:
    """Measures seconds per floating-point operation, and reports the remaining time once.

    Args:
        videos: number of videos of this part of the run.
        operations: estimated operations of all of them (`Forecast.operations`).
        operations_of: estimates those of one video; None if it cannot be probed.
        report: receives one sentence after `WARM_UP` measured videos.
    """

    def __init__(
        self,
        videos: int,
        operations: float,
        operations_of: Callable[[VideoGroup], float | None],
        report: Callable[[str], None],
    ) -> None:
        self._videos, self._mean = videos, operations / videos
        self._operations_of, self._report = operations_of, report
        self._answered = self._measured = 0
        self._seconds = self._operations = 0.0

    def add(self, group: VideoGroup, seconds: float) -> None:
        """Adds a video that was answered completely; see `runner.run_questions`."""
        self._answered += 1
        if self._answered == 1 or self._measured == WARM_UP:
            return
        operations = self._operations_of(group)
        if operations is None:
            return
        self._measured += 1
        self._seconds += seconds
        self._operations += operations
        if self._measured == WARM_UP:
            self._report(
                f"about {duration_text(self.remaining_seconds)} remain, by the measured rate of "
                f"{WARM_UP} videos"
            )

    @property
    def remaining_seconds(self) -> float:
        """Estimated time of the videos that are not answered yet."""
        remaining = (self._videos - self._answered) * self._mean
        return self._seconds / self._operations * remaining
