"""Defines a bounded queue between two threads whose length follows from their measured rates."""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
from typing import Generic, TypeVar

T = TypeVar("T")

SHORTEST = 2
"""Items queued at least: one hides the transfer, one hides uneven production."""

LONGEST = 64

QUEUE_BYTES = 512 << 20
"""Memory of the items that are queued beyond `SHORTEST`."""

NEWEST_SHARE = 0.2
"""Weight of the newest consumption in the mean."""


@dataclasses.dataclass
class QueueLength:
    """Chooses the number of queued items: those consumed during the longest production so far.

    With fewer items, the consumer would wait during such a production although the mean rate of
    production suffices. More items would only take memory. A consumer slower than every production
    needs no more than the shortest queue.
    """

    shortest: int = SHORTEST
    longest: int = LONGEST
    _longest_production: float = 0.0
    _mean_consumption: float = math.inf
    _has_started: bool = False

    def add_production(self, seconds: float) -> None:
        """Adds the time that one item took to produce."""
        self._longest_production = max(self._longest_production, seconds)

    def add_consumption(self, seconds: float) -> None:
        """Adds the time that one item took to consume; leaves out the first, which compiles."""
        if not self._has_started:
            self._has_started = True
        elif math.isinf(self._mean_consumption):
            self._mean_consumption = seconds
        else:
            self._mean_consumption += NEWEST_SHARE * (seconds - self._mean_consumption)

    @property
    def items(self) -> int:
        """Number of items to queue now."""
        mean = max(self._mean_consumption, 1e-6)
        return max(self.shortest, min(math.ceil(self._longest_production / mean), self.longest))


class Queue(Generic[T]):
    """Passes items from one thread to another; a closed queue takes no more items."""

    def __init__(self, length: QueueLength) -> None:
        self.length = length
        self.is_closed = False
        self._items: collections.deque[tuple[T, int]] = collections.deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, item: T, num_bytes: int) -> None:
        """Adds an item; waits while the queue is full, and drops it once the queue is closed."""
        with self._changed:
            while not self.is_closed and self._is_full(num_bytes):
                self._changed.wait()
            if not self.is_closed:
                self._items.append((item, num_bytes))
                self._bytes += num_bytes
                self._changed.notify_all()

    def get(self) -> T:
        """Removes the oldest item; waits for one."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            item, num_bytes = self._items.popleft()
            self._bytes -= num_bytes
            self._changed.notify_all()
        return item

    def close(self) -> None:
        """Drops all items and unblocks the thread that puts them."""
        with self._changed:
            self.is_closed = True
            self._items.clear()
            self._changed.notify_all()

    def _is_full(self, num_bytes: int) -> bool:
        count = len(self._items)
        if count < self.length.shortest:
            return False
        return count >= self.length.items or self._bytes + num_bytes > QUEUE_BYTES
