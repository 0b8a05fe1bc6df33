"""Tests thumbnails: correct frames, aspect ratio, and spread over the video."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video.clips import number_of, write_clip
from xcomp_jax.evidence import Thumbnail, encode_thumbnail, make_thumbnails, spread
from xcomp_jax.video.errors import VideoError


def decoded(thumbnail: Thumbnail) -> Image.Image:
    return Image.open(io.BytesIO(thumbnail.jpeg))


def test_make_thumbnails_shows_selected_frames(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 60)
    frames = [i // 2 * 5 for i in range(24)]  # every fifth frame, each twice
    selected_frames = [0, 1, 7, 12, 23]
    thumbnails = make_thumbnails(clip, frames, [i / 5 for i in frames], selected_frames)
    assert [thumbnail.index for thumbnail in thumbnails] == selected_frames
    assert [number_of(np.asarray(decoded(t))) for t in thumbnails] == [0, 0, 15, 30, 55]


def test_make_thumbnails_decodes_only_shown_frames(tmp_path: Path) -> None:
    """Decoding the frames beyond the end of the video would raise an error."""
    clip = write_clip(tmp_path / "clip.mp4", 20)
    scores = [1.0, 0.0, 0.0, 1.0]
    thumbnails = make_thumbnails(clip, [0, 90, 91, 19], [0, 1, 2, 3], range(4), scores, limit=2)
    assert [thumbnail.index for thumbnail in thumbnails] == [0, 3]


def test_make_thumbnails_missing_video_raises(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        make_thumbnails(tmp_path / "gone.mp4", [0], [0.0], [0])


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((360, 640), (240, 135)),
        ((640, 360), (240, 427)),
        ((36, 64), (64, 36)),
        ((3000, 100), (16, 480)),
        ((1, 1), (1, 1)),
    ],
)
def test_encode_thumbnail_keeps_aspect_ratio(shape: tuple[int, int], size: tuple[int, int]) -> None:
    thumbnail = encode_thumbnail(3, np.zeros((*shape, 3), np.uint8))
    assert decoded(thumbnail).size == size
    assert decoded(thumbnail).format == "JPEG"


def test_spread_keeps_highest_score_per_interval() -> None:
    times = [float(i) for i in range(1000)]
    scores = [1.0 if i % 100 == 37 else 0.0 for i in range(1000)]
    assert spread(range(1000), times, scores, limit=10) == list(range(37, 1000, 100))


def test_spread_few_frames_keeps_all() -> None:
    assert spread([3, 5, 9], [float(i) for i in range(10)], None, limit=3) == [3, 5, 9]


def test_spread_bursts_use_the_whole_limit() -> None:
    selected_frames = [*range(0, 200), 5000, *range(8000, 8100)]
    shown = spread(selected_frames, [i / 2 for i in range(8192)], None, limit=48)
    assert 40 <= len(shown) <= 48
    assert {0, 5000} <= set(shown)
    assert sum(i < 200 for i in shown) >= 20
    assert shown == sorted(set(shown))
    assert set(shown) <= set(selected_frames)


@pytest.mark.parametrize("limit", [1, 2, 7, 48])
def test_spread_never_exceeds_limit(limit: int) -> None:
    draw = np.random.default_rng(limit)
    selected_frames = np.flatnonzero(draw.random(8192) < 0.3).tolist()
    times = np.cumsum(draw.random(8192)).tolist()
    shown = spread(selected_frames, times, draw.random(8192).tolist(), limit=limit)
    assert 0.8 * limit <= len(shown) <= limit


def test_spread_equal_times_and_missing_scores() -> None:
    scores = [math.nan, 0.1, 0.9, math.nan]
    assert spread(range(4), [2.0] * 4, scores, limit=2) == [2]
    assert spread(range(4), [2.0] * 4, [math.nan] * 4, limit=2) == [0]


def test_spread_limit_zero_raises() -> None:
    with pytest.raises(ValueError, match="limit=0"):
        spread([0], [0.0], limit=0)
