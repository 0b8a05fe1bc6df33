"""Selection of a set's entries: the original's shuffles, shares and strategies."""

from __future__ import annotations

import random

import pytest

from xcomp_jax.data.mixture.sets import MixtureError
from xcomp_jax.data.mixture.strategy import select_entries, strategy_slice


def test_select_entries_order_equals_the_original() -> None:
    """Expected orders come from Python's shuffle with seed 12345, from a fresh generator."""
    random.seed(1)
    assert select_entries(list(range(10)), "all") == [8, 7, 3, 5, 1, 2, 9, 4, 0, 6]
    assert select_entries(list(range(10)), "first2:30%") == [5, 1, 2]
    assert select_entries(list(range(10)), "end:3") == [4, 0, 6]


def test_select_entries_second_shuffle_precedes_the_share() -> None:
    entries = list(range(400))
    unshuffled = select_entries(entries, "first2:10%")
    whole = select_entries(entries, "first2:10%", seed=42)
    quarter = select_entries(entries, "first2:10%", end=0.25, seed=42)
    assert len(quarter) == 10
    assert quarter == whole[:10]
    assert sorted(whole) == sorted(unshuffled)
    assert set(quarter) != set(unshuffled[:10]), "control: the order of the steps matters"
    shares = [
        select_entries(list(range(401)), "all", start=i / 4, end=(i + 1) / 4, seed=42)
        for i in range(4)
    ]
    assert sorted(entry for share in shares for entry in share) == list(range(401))


@pytest.mark.parametrize(
    ("strategy", "total", "first", "stop"),
    [
        ("all", 7, 0, 7),
        ("first:3", 7, 0, 3),
        ("first2:3", 7, 3, 6),
        ("first3:3", 7, 6, 7),
        ("first6:3", 7, 7, 7),
        ("first:2.5%", 1001, 0, 26),
        ("first2:10%", 7, 1, 2),
        ("end:10%", 21, 18, 21),
    ],
)
def test_strategy_slice_selects(strategy: str, total: int, first: int, stop: int) -> None:
    assert list(range(total))[strategy_slice(strategy, total)] == list(range(first, stop))


@pytest.mark.parametrize(
    "strategy",
    ["random:5", "first", "first:0", "last:3", "first:x%", "end:-1", "first:150%", "end:nan%"],
)
def test_strategy_slice_unknown_strategy_is_refused(strategy: str) -> None:
    with pytest.raises(MixtureError, match="is unknown; known: all, first:N") as info:
        strategy_slice(strategy, 10)
    assert ("random sample" in str(info.value)) == (strategy == "random:5")
