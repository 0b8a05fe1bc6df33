"""Selects and shuffles the entries of one set (docs/reference_behaviour.md#mixtures).

A set is shuffled with seed 12345 and cut by its `sampling_strategy`; then it is shuffled with the
run's seed and cut to the run's share [start, end).
"""

from __future__ import annotations

import math
import random
import re
from typing import TypeVar

from xcomp_jax.data.mixture.sets import MixtureError

SET_SEED = 12345
"""Seed of the first shuffle, the same for every set."""

STRATEGIES = (
    "all, first:N, first2:N ... first9:N and end:N, where N is a number of samples or a "
    "percentage up to 100%"
)

Entry = TypeVar("Entry")


def select_entries(
    entries: list[Entry],
    strategy: str,
    *,
    start: float = 0.0,
    end: float = 1.0,
    seed: int | None = None,
    where: str = "sampling_strategy",
) -> list[Entry]:
    """Returns the entries of a set that are used, in training order.

    Uses Python's `random`, as the original does, so that both select the same entries.

    Args:
        strategy: see `strategy_slice`.
        start, end: share of the set that the run uses, in [0, 1].
        seed: seed of the second shuffle (default: no second shuffle).
        where: name of the set in error messages.
    """
    selected = list(entries)
    random.Random(SET_SEED).shuffle(selected)
    selected = selected[strategy_slice(strategy, len(entries), where)]
    if seed is not None:
        random.Random(seed).shuffle(selected)
    if start > 0 or end < 1:
        selected = selected[int(len(selected) * start) : int(len(selected) * end)]
    return selected


def strategy_slice(strategy: str, total: int, where: str = "sampling_strategy") -> slice:
    """Returns the slice of a shuffled set of `total` entries that a strategy selects.

    `first3:100` selects the third hundred, `end:2.5%` the last fortieth; shares are rounded up.

    Raises:
        MixtureError: the strategy is unknown.
    """
    if strategy == "all":
        return slice(None)
    name, _, amount = strategy.partition(":")
    block = re.fullmatch(r"first([1-9]?)", name)
    count = _count(amount, total)
    if count < 1 or not (block or name == "end"):
        advice = (
            "; every set is shuffled, so first:N is a random sample" if name == "random" else ""
        )
        raise MixtureError(
            f"{where}: sampling_strategy {strategy!r} is unknown; known: {STRATEGIES}{advice}"
        )
    if not block:
        return slice(-count, None)
    number = int(block[1] or 1)
    return slice(count * (number - 1), count * number)


def _count(amount: str, total: int) -> int:
    """Returns the number of entries that `amount` means, 0 if it is invalid."""
    try:
        if not amount.endswith("%"):
            return int(amount)
        percent = float(amount[:-1])
        return math.ceil(percent * total / 100) if 0 < percent <= 100 else 0
    except ValueError:
        return 0
