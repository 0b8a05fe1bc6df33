"""Shares this process's decoders fairly among the videos that are read at the same time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

MAX_THREADS = 16
"""Decoder threads of one ffmpeg process above which nothing gets faster."""


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Decoders:
    """Limits decoder processes: each of R readers may run `cores // R`, and at least one."""

    def __init__(self, cores: int) -> None:
        self._cores, self._readers = cores, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reader(self) -> Iterator[Share]:
        """Counts a reader during the block."""
        with self._changed:
            self._readers += 1
        try:
            yield Share(self)
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def limit(self) -> int:
        """Returns the number of processes that each reader may run now."""
        return max(1, self._cores // max(1, self._readers))


class Share:
    """Decoder processes of one reader."""

    def __init__(self, decoders: Decoders) -> None:
        self._decoders, self._running = decoders, 0

    @contextlib.contextmanager
    def decoder(self) -> Iterator[None]:
        """Waits for the reader's next decoder, and holds it during the block."""
        changed = self._decoders._changed
        with changed:
            changed.wait_for(lambda: self._running < self._decoders.limit())
            self._running += 1
        try:
            yield
        finally:
            with changed:
                self._running -= 1
                changed.notify_all()


DECODERS = Decoders(available_cores())
