"""Tests of the time spans of temporal grounding."""

from __future__ import annotations

import pytest

from xcomp_jax.evaluation.scoring import (
    Span,
    intersection_over_union,
    published_span,
    span_readings,
    strict_span,
)

# Answer; span of the published rule; span of the strict rule.
ANSWERS: list[tuple[str, Span | None, Span | None]] = [
    ("The event happens in the 24.3 - 30.4 seconds.", (24.3, 30.4), (24.3, 30.4)),
    ("starts at 3.2 seconds and ends at 9 seconds", None, (3.2, 9.0)),
    ("5 seconds to 12 seconds", None, (5.0, 12.0)),
    ("between 5 and 12", None, (5.0, 12.0)),
    ("from 5 to 12 seconds", (5.0, 12.0), (5.0, 12.0)),
    ("starts at 00:00:18 and ends at 00:00:23", None, (18.0, 23.0)),
    ("from 1:05 to 1:10", (1.0, 5.0), (65.0, 70.0)),
    ("12 - 5", (5.0, 12.0), (5.0, 12.0)),
    ("start 1\nend 2", (1.0, 2.0), (1.0, 2.0)),
    ("'person 1 - 2 runs' happens 3 - 4", (1.0, 2.0), (3.0, 4.0)),
    ("at 7 seconds", None, None),
    ("", None, None),
]


@pytest.mark.parametrize(("answer", "published", "strict"), ANSWERS)
def test_spans_wording_read_by_both_rules(
    answer: str, published: Span | None, strict: Span | None
) -> None:
    assert strict_span(answer) == strict
    assert published_span(answer) == published


def test_overlap_of_spans_equal_by_hand() -> None:
    assert intersection_over_union((0, 10), (5, 15)) == pytest.approx(5 / 15)
    assert intersection_over_union((0, 4), (6, 10)) == 0
    assert intersection_over_union((2, 2), (2, 2)) == 1


def test_span_readings_without_span_count_as_zero() -> None:
    readings = span_readings("no idea", (1.0, 2.0))
    assert {(reading.score, reading.status) for reading in readings.values()} == {(0, "unparsed")}
    assert all(reading.counted for reading in readings.values())
    assert span_readings("1 - 3", (1.0, 2.0))["reference"].score == 0.5
