"""Adds up busy seconds and amounts of work of a `with` block.

    with Account() as account:
        video = session.encode_video("film.mp4")
    print(account.seconds, account.wall_seconds, account.work)

The open account is a context variable, so functions need not pass it on. Threads that work for the
block run in a copy of its context (`engine.pipeline`), so that their time is added too. Steps
overlap, so the busy seconds of all steps may exceed the wall seconds.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import threading
import time
from collections.abc import Iterator
from types import TracebackType


@dataclasses.dataclass(frozen=True)
class Totals:
    """Snapshot of an account.

    seconds: busy seconds by step; work: amounts of work by name ("clips encoded"); wall_seconds:
    elapsed time.
    """

    seconds: dict[str, float]
    work: dict[str, int]
    wall_seconds: float


class Account:
    """Adds up the `measure` and `count` calls of any thread while it is open."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.work: dict[str, int] = {}
        self._start = time.perf_counter()
        self._lock = threading.Lock()
        self._tokens: list[contextvars.Token[Account | None]] = []

    def __enter__(self) -> Account:
        self._tokens.append(_OPEN.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _OPEN.reset(self._tokens.pop())

    @property
    def wall_seconds(self) -> float:
        """Seconds since the account was created or last reset by `take`."""
        return time.perf_counter() - self._start

    def add_seconds(self, step: str, seconds: float) -> None:
        """Adds busy seconds to a step."""
        with self._lock:
            self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def add_work(self, name: str, amount: int) -> None:
        """Adds an amount of work."""
        with self._lock:
            self.work[name] = self.work.get(name, 0) + amount

    def take(self) -> Totals:
        """Returns the totals since the last call and resets them."""
        with self._lock:
            totals = Totals(self.seconds, self.work, self.wall_seconds)
            self.seconds, self.work, self._start = {}, {}, time.perf_counter()
        return totals


_OPEN: contextvars.ContextVar[Account | None] = contextvars.ContextVar("account", default=None)


@contextlib.contextmanager
def open_account() -> Iterator[Account]:
    """Yields the open account, or opens a new one for the block."""
    account = _OPEN.get()
    if account is not None:
        yield account
        return
    with Account() as account:
        yield account


def add_seconds(step: str, seconds: float) -> None:
    """Adds busy seconds to a step of the open account, if any."""
    account = _OPEN.get()
    if account is not None:
        account.add_seconds(step, seconds)


def count(name: str, amount: int) -> None:
    """Adds an amount of work to the open account, if any."""
    account = _OPEN.get()
    if account is not None:
        account.add_work(name, amount)


@contextlib.contextmanager
def measure(step: str) -> Iterator[None]:
    """Adds the duration of the block to a step of the open account, if any."""
    start = time.perf_counter()
    try:
        yield
    finally:
        add_seconds(step, time.perf_counter() - start)
