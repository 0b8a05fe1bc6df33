"""Tests the formatting of numbers, times and sentences."""

from __future__ import annotations

import pytest

from tests.evidence.examples import HOSTILE, evidence, one_frame
from xcomp_jax.evidence import wording
from xcomp_jax.evidence.wording import MINUS, TIMES


@pytest.mark.parametrize(
    ("seconds", "decimals", "text"),
    [
        (0, 0, "0:00:00"),
        (59.6, 0, "0:01:00"),
        (59.96, 1, "0:01:00.0"),
        (3599.9, 1, "0:59:59.9"),
        (3661, 0, "1:01:01"),
        (36000, 0, "10:00:00"),
    ],
)
def test_clock_formats_seconds(seconds: float, decimals: int, text: str) -> None:
    assert wording.clock(seconds, decimals) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0001, "under 1 ms"),
        (0.34, "340 ms"),
        (0.9996, "1 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min"),
        (125, "2 min 5 s"),
        (3599.6, "1 h"),
        (3725, "1 h 2 min"),
    ],
)
def test_duration_text_formats_seconds(seconds: float, text: str) -> None:
    assert wording.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(True, "yes"), (8192, "8,192"), (0.5, "0.5"), ("clip", "clip")]
)
def test_setting_text_formats_value(value: object, text: str) -> None:
    assert wording.setting_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (-0.5, f"{MINUS}0.5"),
        (8.01e-5, f"8.01 {TIMES} 10⁻⁵"),
        (-3e20, f"{MINUS}3 {TIMES} 10²⁰"),
    ],
)
def test_score_text_formats_value(value: float, text: str) -> None:
    assert wording.score_text(value) == text


def test_summary_some_all_or_one_frame_selected() -> None:
    assert wording.summary(evidence()) == (
        "Sampled 64 frames from a video of 1 min 4 s; the answer is based on 16 of them."
    )
    assert wording.summary(evidence(selected_frames=tuple(range(64)))) == (
        "Sampled 64 frames from a video of 1 min 4 s; the answer is based on all of them."
    )
    assert wording.summary(one_frame()) == "Sampled 1 frame; the answer is based on it."


def test_escape_html_hostile_text_has_no_markup() -> None:
    text = wording.escape_html(HOSTILE)
    assert text.encode("utf-8")
    assert not set(text) & set("<>\"'\0\x1b")
