"""Limit the time of a bench."""

from __future__ import annotations

import time


class Deadline:
    """A point in time, `minutes` from now, after which no new measurement starts."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end
