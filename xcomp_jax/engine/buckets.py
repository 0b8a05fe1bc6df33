"""Rounds lengths up to static sizes, so that few programs are compiled."""

from __future__ import annotations


def bucket(length: int, unit: int) -> int:
    """Returns the smallest unit * (1, 2, 3, 4, 6, 8, 12, 16, 24, ...) that is >= `length`.

    With two sizes per octave, a length above two units is padded by at most half, and an hour of
    video needs about a dozen programs.

    Raises:
        ValueError: for a negative length.
    """
    if length < 0:
        raise ValueError(f"{length=} must not be negative")
    units = max(1, -(-length // unit))
    octave = 1 << (units.bit_length() - 1)
    return unit * next(size for size in (octave, octave * 3 // 2, octave * 2) if size >= units)
