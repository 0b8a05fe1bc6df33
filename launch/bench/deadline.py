"""A time by which everything must be over."""

from __future__ import annotations

import time


class Deadline:
    """`minutes` from now."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    @property
    def passed(self) -> bool:
        return self.left <= 0
