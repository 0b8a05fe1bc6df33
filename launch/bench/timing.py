"""Time a compiled program without its dispatch latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

ROUNDS = 5


def seconds(function: Callable[..., Any], *arguments: Any, budget: float = 0.3) -> float:
    """Returns the seconds of one call: the median over rounds of calls queued back to back.

    The first call compiles and does not count; the second one sets the number of calls per round.

    Args:
        budget: total seconds to aim at.
    """
    jax.block_until_ready(function(*arguments))
    once = _queued(function, arguments, 1)
    calls = max(1, int(budget / ROUNDS / max(once, 1e-7)))
    rounds = ROUNDS if once * ROUNDS < 4 * budget else 2
    return statistics.median(_queued(function, arguments, calls) for _ in range(rounds))


def _queued(function: Callable[..., Any], arguments: tuple[Any, ...], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        result = function(*arguments)
    jax.block_until_ready(result)
    return (time.perf_counter() - began) / calls
