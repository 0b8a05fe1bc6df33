"""Keeps states of videos and conversations in memory up to a bound, least recently used first out.

Every state can be computed again from the visual tokens in the token store.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Iterator
from typing import Any


class StateMemory:
    """Maps keys to states of known size; used by the device thread only."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.evictions = 0
        self._states: collections.OrderedDict[Hashable, tuple[Any, int, Callable[[], None]]] = (
            collections.OrderedDict()
        )

    def get(self, key: Hashable) -> Any | None:
        """Returns a state and marks it as used."""
        entry = self._states.get(key)
        if entry is None:
            return None
        self._states.move_to_end(key)
        return entry[0]

    def put(
        self, key: Hashable, state: Any, size: int, dropped: Callable[[], None] = lambda: None
    ) -> None:
        """Stores a state of `size` bytes, and drops the least recently used ones above the bound.

        The newest state is kept whatever its size, because its request is being answered.

        Args:
            dropped: called when the state is dropped, or replaced by another one.
        """
        known = self._states.get(key)
        if known is not None and known[0] is state:  # it goes on, perhaps with another size
            self.used_bytes -= self._states.pop(key)[1]
        self.drop(key)
        self._states[key] = (state, size, dropped)
        self.used_bytes += size
        while self.used_bytes > self.max_bytes and len(self._states) > 1:
            self.evictions += 1
            self.drop(next(iter(self._states)))

    def keys(self) -> Iterator[Hashable]:
        """Yields the keys, most recently used first."""
        return iter(reversed(self._states))

    def drop(self, key: Hashable) -> None:
        """Drops a state, if it is stored."""
        entry = self._states.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry[1]
            entry[2]()

    def drop_video(self, video_id: str) -> None:
        """Drops all states of a video; its id is the second entry of their keys."""
        for key in [key for key in self._states if isinstance(key, tuple) and key[1] == video_id]:
            self.drop(key)
