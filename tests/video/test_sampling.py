"""Tests frame sampling: small cases by hand, and properties of every plan."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.indices import (
    Sampling,
    dynamic_count,
    inference_indices,
    middle_indices,
    repeated_to,
    training_indices,
)
from xcomp_jax.video.messages import long_time_message, time_message
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan, plan_frames, plan_training_frames


def video(total: int, fps: float, *, is_folder: bool = False) -> VideoInfo:
    times = tuple(i / fps for i in range(total))
    return VideoInfo(Path("v.mp4"), total, fps, total / fps, times, is_folder)


def test_middle_indices_small_counts_by_hand() -> None:
    assert middle_indices(10, 4) == (0, 3, 5, 8)
    assert middle_indices(8, 8) == tuple(range(8))
    assert middle_indices(3, 5) == (0, 1, 2, 2, 2)
    assert middle_indices(100, 1) == (49,)
    assert middle_indices(5, 0) == ()


@pytest.mark.parametrize(
    ("total", "rate", "sampling", "count"),
    [
        (300, 30.0, Sampling(8, 8, 1024), 80),  # 10 s at 8 per second
        (300, 30.0, Sampling(1, 8, 1024), 8),  # 10 s at 1 per second are one whole clip
        (300, 30.0, Sampling(8, 128, 1024), 128),  # the minimum
        (300, 30.0, Sampling(8, 8, 64), 64),  # the maximum
        (300, 30.0, Sampling(8, 8, 60), 60),  # the maximum, not whole clips
        (30, 30.0, Sampling(30, 128, 1024), 24),  # 30 frames are three whole clips
        (300, 30.0, Sampling(8, 8, 1024, clip_frames=4), 80),
        (100, 30.0, Sampling(0.5, 8, 64), 8),
    ],
)
def test_dynamic_count_bounds_by_hand(
    total: int, rate: float, sampling: Sampling, count: int
) -> None:
    assert dynamic_count(total, rate, sampling) == count


def test_indices_below_one_clip_repeat_or_are_empty() -> None:
    sampling = Sampling(8, 128, 1024)
    assert inference_indices(3, 25.0, sampling) == (0, 0, 0, 1, 1, 1, 2, 2)
    assert training_indices(3, 25.0, sampling) == ()


def test_repeated_to_spreads_repeats_evenly() -> None:
    assert repeated_to((0, 5, 9), 6) == (0, 0, 5, 5, 9, 9)
    assert repeated_to((0, 5, 9), 4) == (0, 0, 5, 9)
    assert repeated_to((0, 5, 9), 2) == (0, 5, 9)


def test_time_message_formats_exact_strings() -> None:
    assert time_message(12.345, 8) == (
        "\nThe video lasts for 12.35 seconds, and 8 frames are uniformly sampled from it. "
    )
    assert long_time_message(2.0, 3, (0.04, 0.96, 1.25)) == (
        "\nThe video lasts for 2.00 seconds, "
        "and 3 frames are uniformly sampled at 0.0, 1.0, 1.2 seconds. "
    )


def test_plan_frames_short_video_by_hand() -> None:
    plan = plan_frames(video(20, 10.0), fps=4, min_frames=16, max_frames=64)
    assert plan.indices == (0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18)
    assert plan.indices == inference_indices(20, 10.0, Sampling(4, 16, 64))
    assert plan.message == time_message(2.0, 16)
    assert plan.times == tuple(i / 10 for i in plan.indices)
    assert isinstance(plan, FramePlan)


def test_plan_frames_clip_bounds_limit_indices() -> None:
    info = video(300, 30.0)
    plan = plan_frames(info, fps=8, min_frames=8, max_frames=512, start=2.0, end=5.0)
    assert plan.duration == 3.0
    assert plan.num_frames == 24
    assert 60 <= plan.indices[0] < plan.indices[-1] < 150
    whole = plan_frames(info, fps=8, min_frames=8, max_frames=512)
    assert whole.indices != plan.indices
    to_the_end = plan_frames(info, fps=8, min_frames=8, max_frames=512, start=9.0)
    assert to_the_end.duration == pytest.approx(0.9)  # the last 0.1 s are never included
    assert plan_frames(info, fps=8, min_frames=8, max_frames=512, end=5.0).duration == 5.0


@pytest.mark.parametrize(("start", "end"), [(5.0, 5.0), (6.0, 5.0), (9.95, None), (30.0, 40.0)])
def test_plan_frames_clip_outside_video_raises(start: float, end: float | None) -> None:
    for plan in (plan_frames, plan_training_frames):
        with pytest.raises(VideoError, match=r"holds no frame of a video of 10\.00 s"):
            plan(video(300, 30.0), fps=8, min_frames=8, max_frames=512, start=start, end=end)


def test_plan_training_frames_partial_clip_raises() -> None:
    for total, maximum in ((5, 1024), (300, 60)):
        with pytest.raises(VideoError, match="not whole clips of 8"):
            plan_training_frames(video(total, 30.0), fps=8, min_frames=4, max_frames=maximum)
    plan = plan_training_frames(video(40, 25.0), fps=8, min_frames=128, max_frames=1024)
    assert plan.indices == tuple(range(40))  # no repeats, although below the minimum


def test_plan_frames_folder_is_one_image_per_second() -> None:
    folder = video(150, 4.0, is_folder=True)
    plan = plan_frames(folder, fps=8, min_frames=16, max_frames=512)
    assert plan.num_frames == 144  # every image except the last, incomplete clip
    assert plan.duration == 37.5
    assert "37.50 seconds" in plan.message
    file = plan_frames(
        dataclasses.replace(folder, is_folder=False), fps=1, min_frames=8, max_frames=64
    )
    assert file.num_frames == 32  # Control: as a file of 37.5 s


def test_plan_frames_folder_clip_is_evenly_spaced() -> None:
    folder = video(90, 3.0, is_folder=True)
    plan = plan_frames(folder, fps=8, min_frames=8, max_frames=64, start=10.0, end=18.0)
    assert plan.indices == (30, 33, 37, 40, 44, 47, 51, 54)
    at_the_edges = plan_frames(folder, fps=8, min_frames=8, max_frames=8, start=0.0, end=99.0)
    assert (at_the_edges.indices[0], at_the_edges.indices[-1]) == (1, 89)


@pytest.mark.parametrize(
    "values", [(0, 1, 8, 8), (-1, 1, 8, 8), (1, -1, 8, 8), (1, 1, 0, 8), (1, 1, 8, 0)]
)
def test_sampling_invalid_bounds_raise(values: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"must be positive|at least"):
        Sampling(*values)


@settings(max_examples=200, deadline=None)
@given(
    total=st.integers(1, 4000),
    rate=st.floats(0.2, 120),
    fps=st.integers(1, 30),
    minimum=st.integers(0, 40).map(lambda n: 8 * n),
    maximum=st.integers(1, 80).map(lambda n: 8 * n),
)
def test_plan_frames_any_video_is_sorted_and_bounded(
    total: int, rate: float, fps: int, minimum: int, maximum: int
) -> None:
    info = video(total, rate)
    plan = plan_frames(info, fps=fps, min_frames=minimum, max_frames=maximum)
    assert list(plan.indices) == sorted(plan.indices)
    assert 0 <= plan.indices[0] <= plan.indices[-1] < total
    assert minimum <= plan.num_frames == len(plan.indices) <= max(minimum, maximum, 8)
    assert plan.num_frames % 8 == 0
    if total >= 8:
        training = plan_training_frames(info, fps=fps, min_frames=minimum, max_frames=maximum)
        assert len(set(training.indices)) == training.num_frames  # no frame twice
        assert set(training.indices) == set(plan.indices)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), float("-inf")])
def test_plan_frames_non_finite_bounds_raise(seconds: float) -> None:
    info = video(100, 25.0)
    options = {"fps": 1, "min_frames": 4, "max_frames": 8}
    for name in ("start", "end"):
        with pytest.raises(VideoError, match=f"{name}={seconds} is not finite"):
            plan_frames(info, **options, **{name: seconds})
