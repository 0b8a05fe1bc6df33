"""Thumbnails: the right frames, in the video's shape, spread over its time."""

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


def picture(thumbnail: Thumbnail) -> Image.Image:
    return Image.open(io.BytesIO(thumbnail.jpeg))


def test_the_frames_of_the_video_that_were_chosen(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 60)
    frames = [i // 2 * 5 for i in range(24)]  # every fifth, each twice
    selected_frames = [0, 1, 7, 12, 23]
    thumbnails = make_thumbnails(clip, frames, [i / 5 for i in frames], selected_frames)
    assert [thumbnail.index for thumbnail in thumbnails] == selected_frames
    assert [number_of(np.asarray(picture(t))) for t in thumbnails] == [0, 0, 15, 30, 55]


def test_only_the_best_are_decoded(tmp_path: Path) -> None:
    """Frames beyond the end of the video would be an error if they were asked for."""
    clip = write_clip(tmp_path / "clip.mp4", 20)
    scores = [1.0, 0.0, 0.0, 1.0]
    thumbnails = make_thumbnails(clip, [0, 90, 91, 19], [0, 1, 2, 3], range(4), scores, limit=2)
    assert [thumbnail.index for thumbnail in thumbnails] == [0, 3]


def test_a_video_that_is_gone(tmp_path: Path) -> None:
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
def test_the_shape_of_the_video_is_kept(shape: tuple[int, int], size: tuple[int, int]) -> None:
    thumbnail = encode_thumbnail(3, np.zeros((*shape, 3), np.uint8))
    assert picture(thumbnail).size == size
    assert picture(thumbnail).format == "JPEG"


def test_the_highest_of_every_stretch_stays() -> None:
    times = [float(i) for i in range(1000)]
    scores = [1.0 if i % 100 == 37 else 0.0 for i in range(1000)]
    assert spread(range(1000), times, scores, limit=10) == list(range(37, 1000, 100))


def test_few_frames_all_stay() -> None:
    assert spread([3, 5, 9], [float(i) for i in range(10)], None, limit=3) == [3, 5, 9]


def test_frames_chosen_in_bursts_are_shown_as_finely_as_there_is_room() -> None:
    selected_frames = [*range(0, 200), 5000, *range(8000, 8100)]
    kept = spread(selected_frames, [i / 2 for i in range(8192)], None, limit=48)
    assert 40 <= len(kept) <= 48
    assert {0, 5000} <= set(kept)
    assert sum(i < 200 for i in kept) >= 20
    assert kept == sorted(set(kept))
    assert set(kept) <= set(selected_frames)


@pytest.mark.parametrize("limit", [1, 2, 7, 48])
def test_never_more_than_the_limit(limit: int) -> None:
    draw = np.random.default_rng(limit)
    selected_frames = np.flatnonzero(draw.random(8192) < 0.3).tolist()
    times = np.cumsum(draw.random(8192)).tolist()
    kept = spread(selected_frames, times, draw.random(8192).tolist(), limit=limit)
    assert 0.8 * limit <= len(kept) <= limit


def test_frames_of_one_moment_and_missing_scores() -> None:
    scores = [math.nan, 0.1, 0.9, math.nan]
    assert spread(range(4), [2.0] * 4, scores, limit=2) == [2]
    assert spread(range(4), [2.0] * 4, [math.nan] * 4, limit=2) == [0]


def test_no_thumbnails_are_asked_for_by_not_calling() -> None:
    with pytest.raises(ValueError, match="limit=0"):
        spread([0], [0.0], limit=0)
