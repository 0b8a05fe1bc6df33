"""Argument types of flags: numbers with a range, and times.

A refused value is reported with the values allowed: `--frames 0 is not a whole number of at least
1`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d(?:\.\d+)?)")
"""[h:]mm:ss[.fff], as evidence pages print times."""


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Returns a type that accepts decimal integers in [least, most]."""
    bounds = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"

    def parse(text: str) -> int:
        # int() also accepts "1_000" and digits of other scripts; int of 5,000 digits raises.
        if re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip()):
            value = int(text)
            if value >= least and (most is None or value <= most):
                return value
        raise _refused(text, f"a whole number {bounds}")

    return parse


def real_number(
    least: float, most: float | None = None, *, above: bool = False
) -> Callable[[str], float]:
    """Returns a type that accepts finite numbers in [least, most]; (least, most] if `above`."""
    low = f"above {least:g}" if above else f"of at least {least:g}"
    bounds = low if most is None else f"{low} and at most {most:g}"

    def parse(text: str) -> float:
        value = _float(text)
        in_range = value > least if above else value >= least
        if math.isfinite(value) and in_range and (most is None or value <= most):
            return value
        raise _refused(text, f"a number {bounds}")

    return parse


def seconds(text: str) -> float:
    """Parses a time: seconds (90, 90.5) or a clock time (1:30, 0:01:30.5)."""
    clock = _CLOCK.fullmatch(text.strip())
    if clock:
        hours, minutes, rest = clock.groups()
        if hours is None or int(minutes) < 60:
            return 3600 * int(hours or 0) + 60 * int(minutes) + float(rest)
    value = _float(text)
    if not (math.isfinite(value) and value >= 0):
        raise _refused(text, "a time; use seconds of at least 0 or [h:]mm:ss, such as 90 or 1:30")
    return value


def _float(text: str) -> float:
    """Returns the number in `text`, NaN if there is none; float() also accepts "1_0" and "٣"."""
    number = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?"
    return float(text) if re.fullmatch(number, text, re.I) else math.nan


def _refused(text: str, allowed: str) -> argparse.ArgumentTypeError:
    shown = text if text and text.isprintable() and not text.isspace() else ascii(text)
    return argparse.ArgumentTypeError(f"{shown[:80]} is not {allowed}")
