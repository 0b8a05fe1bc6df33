"""Builds the ffmpeg expression that selects frames by time or by number."""

from __future__ import annotations

from collections.abc import Sequence

Run = tuple[int, int]


def select_expression(values: Sequence[int], variable: str) -> str:
    """Returns an ffmpeg expression that is true where `variable` is one of `values`.

    `values` are sorted and distinct; `variable` is "pts", the frame's time in ticks, or "n", its
    number. The expression is a binary tree over runs of consecutive values, so ffmpeg evaluates
    O(log runs) comparisons per frame and stays far below its limit of about 100 nested terms.
    """
    return interval_expression(_runs(values), variable)


def _runs(values: Sequence[int]) -> list[Run]:
    """Groups consecutive values into (first, last) pairs."""
    runs: list[Run] = []
    for value in values:
        if runs and runs[-1][1] == value - 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def interval_expression(runs: Sequence[Run], variable: str) -> str:
    """Returns an ffmpeg expression that is true where `variable` lies in one of `runs`.

    `runs` are (first, last) pairs, rising and disjoint; see `select_expression`.
    """
    if len(runs) == 1:
        return f"between({variable},{runs[0][0]},{runs[0][1]})"
    middle = len(runs) // 2
    left, right = (interval_expression(part, variable) for part in (runs[:middle], runs[middle:]))
    return f"if(lt({variable},{runs[middle][0]}),{left},{right})"
