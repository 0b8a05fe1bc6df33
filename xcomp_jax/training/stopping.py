"""SIGTERM, as schedulers send it before they take a machine away: save, then end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Stopped(BaseException):
    """The run was asked to end and did; the same command continues it.

    Like KeyboardInterrupt it may come anywhere, also where errors are caught and survived.
    """


class StopRequest:
    """Whether SIGTERM came. Where nothing has to be saved it raises Stopped at once."""

    def __init__(self) -> None:
        self.received = False
        self._deferred = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.received = True
        if not self._deferred:
            raise Stopped("stopped by SIGTERM; nothing had to be saved, the same command continues")

    @contextlib.contextmanager
    def deferred(self) -> Iterator[StopRequest]:
        """Here whoever is inside looks at `received` and saves before it raises Stopped.

        Raises:
            Stopped: SIGTERM came too late for whoever was inside.
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
    """For a run of one process; of several, JAX agrees on a step at which all of them stop."""
    request = StopRequest()
    before = signal.signal(signal.SIGTERM, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
