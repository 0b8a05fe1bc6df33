"""Builds the ffmpeg expression that selects frames by number."""

from __future__ import annotations

from collections.abc import Sequence

Run = tuple[int, int]


def select_expression(indices: Sequence[int]) -> str:
    """Returns an ffmpeg expression that is true for the frame numbers in `indices`.

    `indices` are sorted and distinct. The expression is a binary tree over runs of consecutive
    numbers, so ffmpeg evaluates O(log runs) comparisons per frame and stays far below its limit of
    about 100 nested terms.
    """
    return _tree(_runs(indices))


def _runs(indices: Sequence[int]) -> list[Run]:
    """Groups consecutive indices into (first, last) pairs."""
    runs: list[Run] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _tree(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return f"between(n,{runs[0][0]},{runs[0][1]})"
    middle = len(runs) // 2
    return f"if(lt(n,{runs[middle][0]}),{_tree(runs[:middle])},{_tree(runs[middle:])})"
