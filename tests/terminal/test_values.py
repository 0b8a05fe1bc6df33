"""Tests the argument types of numeric flags."""

from __future__ import annotations

import argparse
import math

import pytest

from xcomp_jax.evidence.wording import clock
from xcomp_jax.terminal.values import real_number, seconds, whole_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        ("90.5", 90.5),
        ("0", 0),
        ("1:30", 90),
        ("01:30.25", 90.25),
        ("0:01:30", 90),
        ("2:00:00", 7200),
        ("90:00", 5400),
    ],
)
def test_seconds_reads_numbers_and_clock_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("moment", [0.0, 59.9, 60.0, 3599.5, 3600.0, 86399.9])
def test_seconds_inverts_clock_of_pages(moment: float) -> None:
    assert math.isclose(seconds(clock(moment, 1)), moment, abs_tol=1e-9)


@pytest.mark.parametrize("text", ["-1", "1:60", "1:60:00", ":30", "1:", "1:2:3:4", "inf", "1m"])
def test_seconds_other_text_raises(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a time; use seconds"):
        seconds(text)


def test_whole_number_outside_range_raises() -> None:
    assert [whole_number(0)("0"), whole_number(1, 3)(" 3 ")] == [0, 3]
    for text in ("0", "4", "2.0", "1_0", "9" * 5000, "٣"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is not a whole number from 1 to 3$"):
            whole_number(1, 3)(text)
    with pytest.raises(argparse.ArgumentTypeError, match=r"' ' is not .* of at least 1,024$"):
        whole_number(1024)(" ")


def test_real_number_outside_range_raises() -> None:
    assert real_number(0, 1)("0") == 0
    for text in ("0", "1.5", "nan", "inf", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"a number above 0 and at most 1$"):
            real_number(0, 1, above=True)(text)
