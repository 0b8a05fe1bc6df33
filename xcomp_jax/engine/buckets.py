"""Static sizes: lengths are rounded up so that few programs are compiled and then used for ever."""

from __future__ import annotations


def bucket(length: int, unit: int) -> int:
    """The least of unit x (1, 2, 3, 4, 6, 8, 12, 16, 24, ...) that holds `length` (at least one
    unit).

    Two sizes to an octave: beyond two units padding costs at most half the real length, and an hour
    of video meets about a dozen programs.

    Raises:
        ValueError: for a negative length.
    """
    if length < 0:
        raise ValueError(f"{length=} must not be negative")
    units = max(1, -(-length // unit))
    octave = 1 << (units.bit_length() - 1)
    return unit * next(size for size in (octave, octave * 3 // 2, octave * 2) if size >= units)
