"""Ordered map: order of results, bounded memory, propagation of exceptions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from xcomp_jax.data.ordered_map import ordered_map


def test_ordered_map_uneven_durations_keep_order() -> None:
    def square(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(ordered_map(square, range(12))) == [n * n for n in range(12)]


def test_ordered_map_slow_consumer_bounds_the_results() -> None:
    started: list[int] = []
    results = ordered_map(started.append, range(100), max_workers=2)
    for consumed in range(1, 6):
        next(results)
        time.sleep(0.02)
        assert len(started) <= consumed + 1
    results.close()  # type: ignore[attr-defined]
    assert len(started) < 10


def test_ordered_map_exception_is_raised_in_order() -> None:
    exhausted = threading.Event()

    def fail_on_two(item: int) -> int:
        if item == 2:
            raise RuntimeError("item 2")
        return item

    def items() -> Iterator[int]:
        yield from range(50)
        exhausted.set()

    results = ordered_map(fail_on_two, items(), max_workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="item 2"):
        next(results)
    assert not exhausted.is_set(), "items after the failure were read"
