"""Seconds of a compiled program, without counting what it takes to start it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

ROUNDS = 5


def seconds(function: Callable[..., Any], *arguments: Any, wanted: float = 0.3) -> float:
    """Median over rounds of the mean of calls queued back to back, about `wanted` s in all.

    `function` is compiled by the first call, which is not counted; the second says how many calls
    a round may hold.
    """
    jax.block_until_ready(function(*arguments))
    once = _queued(function, arguments, 1)
    calls = max(1, int(wanted / ROUNDS / max(once, 1e-7)))
    rounds = ROUNDS if once * ROUNDS < 4 * wanted else 2
    return statistics.median(_queued(function, arguments, calls) for _ in range(rounds))


def _queued(function: Callable[..., Any], arguments: tuple[Any, ...], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        result = function(*arguments)
    jax.block_until_ready(result)
    return (time.perf_counter() - began) / calls
