"""Tests the estimate of a run's remaining time from its first videos."""

from __future__ import annotations

import pytest

from tests.evaluation.examples import questions
from xcomp_jax.evaluation.grouping import VideoGroup, group_by_video
from xcomp_jax.evaluation.measured_rate import MeasuredRate


def measure(operations: dict[str, float | None], seconds: dict[str, float]) -> list[str]:
    """Runs all videos; returns what was reported, with the number of answered videos before it."""
    groups, reported = group_by_video(questions()), []

    def operations_of(group: VideoGroup) -> float | None:
        return operations.get(group.questions[0].video, 100.0)

    rate = MeasuredRate(len(groups), 1000.0, operations_of, reported.append)
    for number, group in enumerate(groups):
        before = len(reported)
        rate.add(group, seconds.get(group.questions[0].video, 10.0))
        if len(reported) > before:
            reported[-1] = f"{number + 1}: {reported[-1]}"
    return reported


def test_remaining_time_leaves_first_video_out() -> None:
    # The first video compiles for an hour; seven of ten equal videos of 10 s remain.
    (text,) = measure({}, {"v0": 3600.0})
    assert text == "3: about 1 min 10 s remain, by the measured rate of 2 videos"


@pytest.mark.parametrize(("cost", "expected"), [(200.0, "46.7 s"), (None, "1 min")])
def test_remaining_time_weighs_videos_by_operations(cost: float | None, expected: str) -> None:
    # Two videos with 300 operations in 20 s, then 700; or one that cannot be probed is left out.
    (text,) = measure({"v1": cost}, {})
    assert f"about {expected} remain" in text
    assert text.startswith("3:" if cost else "4:")
