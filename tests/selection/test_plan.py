"""Tests windows, segments, frame scores and selection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xcomp_jax.compression.schedule import Drop, LayerGroup, RankedDrop, plan_layer_groups
from xcomp_jax.config import CompressionConfig, ConfigError, SelectionConfig
from xcomp_jax.selection.frame_scores import (
    UNCOVERED,
    best_frames,
    scores_of_clips,
    scores_of_frames,
)
from xcomp_jax.selection.plan import (
    ScoringPlan,
    frames_to_select,
    layers_to_score,
    plan_scoring,
)
from xcomp_jax.selection.windows import plan_segments, plan_windows


@pytest.mark.parametrize(
    ("select", "num_frames", "seconds", "expected"),
    [
        (None, 1024, 3599.9, 512),
        (None, 4096, 3600.0, 2048),
        (None, 2048, 3600.0, None),
        (None, 1016, 100.0, None),
        (256, 1024, 5000.0, 256),
        (256, 1016, 5000.0, None),
        (1024, 1024, 10.0, None),
    ],
)
def test_frames_to_select_follows_paper(
    select: int | None, num_frames: int, seconds: float, expected: int | None
) -> None:
    config = SelectionConfig(select=select)
    assert frames_to_select(config, num_frames=num_frames, duration=seconds) == expected


def test_plan_windows_published_settings() -> None:
    windows = plan_windows(SelectionConfig(repeats=8), 1024)
    assert windows.length == 576
    assert windows.num_clips == 72
    assert windows.starts[:6] == (0, 512, 65, 577, 130, 642)
    assert windows.clip_starts(1, 8)[-1] == (512 + 568) % 1024
    # granularity="clip": shifts by whole clips.
    clips = plan_windows(SelectionConfig(repeats=8, granularity="clip"), 1024)
    assert clips.starts[:4] == (0, 512, 64, 576)
    assert all(start % 8 == 0 for start in clips.starts)


@settings(max_examples=400, deadline=None)
@given(
    frames=st.integers(1, 700),
    repeats=st.integers(1, 9),
    segment=st.integers(1, 9).flatmap(lambda a: st.tuples(st.just(a), st.integers(1, a))),
    window=st.sampled_from([8, 20, 64, 100, 512]),
    scope=st.sampled_from(["segments", "global"]),
    granularity=st.sampled_from(["frame", "clip"]),
)
@example(64, 1, (8, 4), 512, "segments", "frame")
@example(96, 2, (8, 3), 64, "segments", "frame")
@example(7, 1, (1, 1), 8, "global", "frame")
def test_plan_windows_score_every_frame_or_raise(
    frames: int,
    repeats: int,
    segment: tuple[int, int],
    window: int,
    scope: Any,
    granularity: Any,
) -> None:
    config = SelectionConfig(
        repeats=repeats,
        segment_clips=segment[0],
        segment_stride=segment[1],
        window_frames=window,
        scope=scope,
        granularity=granularity,
    )
    min_frames = 8 * (segment[0] if scope == "segments" else 1)
    if frames < min_frames:
        with pytest.raises(ConfigError, match=f"use {min_frames} frames or more"):
            plan_windows(config, frames)
        return
    windows = plan_windows(config, frames)
    segments = plan_segments(config, num_clips=windows.num_clips, visual_tokens=10**6)
    window_scores = scores_of_clips(np.ones((1, segments.count, segments.size)), segments)
    scores = scores_of_frames([window_scores] * len(windows.starts), windows)
    assert scores.windows.min() >= 1
    np.testing.assert_array_equal(scores.total, 1.0)


def test_plan_windows_published_settings_add_none() -> None:
    for num_frames in (1024, 1032, 4096):
        for repeats in (2, 8):
            windows = plan_windows(SelectionConfig(repeats=repeats), num_frames)
            assert len(windows.starts) == repeats * -(-num_frames // 512)
    # Control: with stride 3, some clips inside a window lie in fewer segments than others.
    assert len(plan_windows(SelectionConfig(segment_stride=3), 1024).starts) > 4


def test_clip_scores_at_window_ends_uncovered() -> None:
    config = SelectionConfig(segment_clips=4, segment_stride=2)
    segments = plan_segments(config, num_clips=9, visual_tokens=90)
    assert (segments.count, segments.clip_tokens) == (3, 10)
    by_segment = np.arange(12.0).reshape(3, 4)
    scores = scores_of_clips(by_segment, segments)
    # Clips 2-5 lie in two segments; 0, 1, 6, 7 in one; 8 in none.
    assert scores.tolist() == [
        *(UNCOVERED, UNCOVERED),
        *((2 + 4) / 2, (3 + 5) / 2, (6 + 8) / 2, (7 + 9) / 2),
        *(UNCOVERED, UNCOVERED, UNCOVERED),
    ]


def test_frame_without_score_raises() -> None:
    windows = plan_windows(SelectionConfig(min_frames=0), 1024)
    scores = [np.full((2, windows.num_clips), np.nan)] * len(windows.starts)
    with pytest.raises(ValueError, match="frame 0 of 1024 has no finite score in any of 4 windows"):
        scores_of_frames(scores, windows)


def test_best_frames_tie_keeps_earlier() -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    assert best_frames(scores, 3) == (1, 2, 3)
    assert best_frames(scores, 4) == (1, 2, 3, 4)


def scoring_plan(
    layer_groups: Sequence[LayerGroup], config: SelectionConfig, *, visual_tokens: int
) -> ScoringPlan:
    return plan_scoring(
        layer_groups, config, visual_tokens=visual_tokens, tokens_per_frame=16, prefix_length=14
    )


def test_scoring_plan_ends_at_last_scored_layer() -> None:
    layer_groups = plan_layer_groups(CompressionConfig(), num_layers=28, tokens_per_frame=16)
    plan = scoring_plan(layer_groups, SelectionConfig(), visual_tokens=576 * 16)
    assert sum(group.layers.num_layers for group in plan.groups) == 24
    scored = [
        (group.layers.num_layers, group.segments.clip_tokens)
        for group in plan.groups
        if group.segments is not None
    ]
    assert sum(count for count, _ in scored) == 18
    assert scored[0] == (1, 8 * 14), "layers 5 and 6 have 14 tokens per frame"
    assert scored[-1][1] == 16
    # A layer group that is cut in two drops its tokens once.
    assert sum(group.layers.drop is not None for group in plan.groups) == 14


def test_layers_to_score_scales_with_depth() -> None:
    assert layers_to_score(SelectionConfig(), 28) == (6, 24)
    assert layers_to_score(SelectionConfig(), 4) == (0, 3)
    assert layers_to_score(SelectionConfig(layers=(2, 4)), 4) == (2, 4)
    with pytest.raises(ConfigError, match="beyond the model's 4 layers"):
        layers_to_score(SelectionConfig(layers=(2, 5)), 4)


def test_scoring_plan_counts_leftover_tokens() -> None:
    layer_groups = (LayerGroup(1), LayerGroup(2, Drop(run=16, keep=tuple(range(1, 16)))))
    config = SelectionConfig(layers=(0, 3))
    plan = scoring_plan(layer_groups, config, visual_tokens=1600)
    assert [group.leftover for group in plan.groups] == [1600 % 12, 1500 % 12]


def test_invalid_plan_raises() -> None:
    with pytest.raises(ConfigError, match="at least 64 frames, this video has 63"):
        plan_windows(SelectionConfig(), 63)
    ranked = (LayerGroup(2), LayerGroup(2, RankedDrop(0.5, by_attention=False)))
    with pytest.raises(ConfigError, match="does not have; use 'none' or LP-Comp"):
        scoring_plan(ranked, SelectionConfig(), visual_tokens=2048)
    for change, message in (
        ({"segment_stride": 9}, "must not exceed segment_clips=8"),
        ({"repeats": 0}, "repeats=0 must be at least 1"),
        ({"layers": (3, 3)}, "must be \\(first, one past the last\\)"),
        ({"select": 0}, "select=0 must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(SelectionConfig(), **change)
