"""The bounded map: order, bound, and what an exception does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from xcomp_jax.data.ordered_map import ordered_map


def test_results_come_in_order_whatever_finishes_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(ordered_map(slow_first, range(12))) == [n * n for n in range(12)]


def test_a_slow_caller_stops_the_work() -> None:
    """No more results exist than threads, however many items wait."""
    started: list[int] = []
    results = ordered_map(started.append, range(100), max_workers=2)
    for taken in range(1, 6):
        next(results)
        time.sleep(0.02)
        assert len(started) <= taken + 1
    results.close()  # type: ignore[attr-defined]
    assert len(started) < 10


def test_an_exception_arrives_in_turn_and_ends_the_work() -> None:
    release = threading.Event()

    def third_fails(item: int) -> int:
        if item == 2:
            raise RuntimeError("item 2")
        return item

    def items() -> Iterator[int]:
        yield from range(50)
        release.set()

    results = ordered_map(third_fails, items(), max_workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="item 2"):
        next(results)
    assert not release.is_set(), "items after the failure were drawn to the end"
