"""Stops a run on SIGTERM, which schedulers send before they take a machine away."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Stopped(BaseException):
    """Raised when a run stops after SIGTERM; the same command continues it.

    Derives from BaseException, like KeyboardInterrupt, because code that catches and survives
    errors must not catch it.
    """


class StopRequest:
    """Records SIGTERM, and raises Stopped at once unless a save is possible (`deferred`)."""

    def __init__(self) -> None:
        self.received = False
        self._deferred = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handles the signal."""
        self.received = True
        if not self._deferred:
            raise Stopped(
                "stopped by SIGTERM; there was nothing to save, the same command continues"
            )

    @contextlib.contextmanager
    def deferred(self) -> Iterator[StopRequest]:
        """Delays Stopped: the block checks `received`, saves, and raises Stopped itself.

        Raises:
            Stopped: SIGTERM arrived after the last check of the block.
        """
        self._deferred = True
        try:
            yield self
        finally:
            self._deferred = False
        if self.received:
            raise Stopped("stopped by SIGTERM; everything was saved, the same command continues")


@contextlib.contextmanager
def stopping_on_sigterm() -> Iterator[StopRequest]:
    """Installs a StopRequest as the SIGTERM handler of a run of one process.

    In a run of several processes JAX handles the signal and chooses a step at which all stop.
    """
    request = StopRequest()
    before = signal.signal(signal.SIGTERM, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
