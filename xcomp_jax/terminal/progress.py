"""Shows progress on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

LINE_SECONDS = 30.0
"""Seconds between two lines where stderr is a file or a pipe; shorter work prints none."""


class ProgressBar(tqdm):
    """A tqdm bar that prints a line every `LINE_SECONDS` where stderr is no terminal.

    Arguments are those of tqdm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._output: TextIO = kwargs.get("file") or sys.stderr
        kwargs["file"] = self._output
        self._prints_lines = not self._output.isatty()
        self._last_line = time.monotonic()
        if self._prints_lines:
            kwargs |= {"leave": False, "ncols": 80}
        super().__init__(*args, **kwargs)

    def skip(self, count: int) -> None:
        """Advances by work of an earlier run, which the rate and the remaining time leave out."""
        if not self.disable:
            self.initial += count
            self.n += count

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Shows the bar, or prints it as a line if the last one is old enough."""
        if not self._prints_lines:
            return super().display(msg, pos)
        now = time.monotonic()
        if msg != "" and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            print(self if msg is None else msg, file=self._output, flush=True)
        return False

    def clear(self, *args: Any, **kwargs: Any) -> None:
        """Removes the bar from a terminal; printed lines stay."""
        if not self._prints_lines:
            super().clear(*args, **kwargs)
