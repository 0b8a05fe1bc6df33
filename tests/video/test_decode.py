"""Tests read_frames: exact frames from every container, and no process or file left behind."""

from __future__ import annotations

import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.video.clips import CODECS, ffmpeg, numbers, write_folder
from tests.video.conftest import COUNT
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.probe import probe
from xcomp_jax.video.select_filter import select_expression

PATTERNS = {
    "every frame": range(COUNT),
    "the first": [0],
    "the last": [COUNT - 1],
    "one in the middle, not a key frame": [17],
    "every seventh": range(3, COUNT, 7),
    "repeats": [0, 0, 0, 5, 5, 6, 40, 40, COUNT - 1, COUNT - 1],
    "runs and gaps": [*range(4, 9), 20, *range(30, 33), *range(60, COUNT)],
}


@pytest.mark.parametrize("suffix", CODECS)
def test_read_frames_any_container_yields_indices(clips: dict[str, Path], suffix: str) -> None:
    for name, pattern in PATTERNS.items():
        assert numbers(read_frames(clips[suffix], pattern)) == list(pattern), name


def test_numbers_shifted_by_one_frame_all_differ(clips: dict[str, Path]) -> None:
    """Control of the test above: an offset of one frame is visible at every position."""
    shifted = numbers(read_frames(clips["mp4"], range(1, 41)))
    assert all(number != index for number, index in zip(shifted, range(40), strict=True))


def test_read_frames_random_indices_yields_them(clips: dict[str, Path]) -> None:
    draw = random.Random(0)
    for _ in range(12):
        pattern = sorted(draw.choices(range(COUNT), k=draw.randint(1, 60)))
        assert numbers(read_frames(clips["webm"], pattern)) == pattern


def test_read_frames_edit_list_skips_hidden_frames(cut_clip: Path) -> None:
    shown = probe(cut_clip).num_frames
    assert shown < COUNT
    assert numbers(read_frames(cut_clip, range(shown))) == list(range(COUNT - shown, COUNT))


def test_read_frames_uneven_spacing_keeps_every_frame(uneven_clip: Path) -> None:
    assert numbers(read_frames(uneven_clip, range(60))) == list(range(60))


def test_read_frames_twice_gives_equal_frames(clips: dict[str, Path]) -> None:
    first, second = (list(read_frames(clips["mp4"], range(0, COUNT, 3))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    others = list(read_frames(clips["mp4"], range(1, COUNT, 3)))
    assert not np.array_equal(first, others)


def test_read_frames_thousands_scattered_yields_them(long_clip: Path) -> None:
    """8192 of 9000: the filter exceeds the length limit of a command argument (128 KiB)."""
    indices = sorted(random.Random(1).sample(range(9000), 8192 // 2) * 2)
    assert numbers(read_frames(long_clip, indices)) == indices
    every_other = range(0, 9000, 2)
    assert len(select_expression(every_other, "pts")) > 2**17
    assert numbers(read_frames(long_clip, every_other)) == list(every_other)


def test_select_expression_runs_become_tree() -> None:
    assert select_expression([3], "n") == "between(n,3,3)"
    expected = "if(lt(pts,7),between(pts,0,2),between(pts,7,7))"
    assert select_expression([0, 1, 2, 7], "pts") == expected


# --- size --------------------------------------------------------------------------------------


def test_read_frames_bicubic_equals_preprocessing(clips: dict[str, Path]) -> None:
    for path in (clips["mp4"], clips["gif"]):
        native = read_frames(path, [2, 30])
        for whole, small in zip(native, read_frames(path, [2, 30], size=28), strict=True):
            assert small.shape == (28, 28, 3)
            np.testing.assert_array_equal(small, resize_bicubic(whole, 28))


def test_read_frames_ffmpeg_resize_is_close_to_bicubic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a_0.png")
    video = tmp_path / "smooth.avi"
    ffmpeg("-i", str(tmp_path / "a_0.png"), "-c:v", "ffv1", "-pix_fmt", "bgr0", str(video))
    exact = next(read_frames(video, [0], size=48)).astype(int)
    fast = next(read_frames(video, [0], size=48, resize="ffmpeg")).astype(int)
    assert 0 < np.abs(exact - fast).max() <= 6
    native = next(read_frames(video, [0])).astype(int)
    assert np.array_equal(native, smooth)


def test_read_frames_repeats_share_one_read_only_array(clips: dict[str, Path]) -> None:
    first, second = read_frames(clips["mp4"], [4, 4])
    assert first is second
    with pytest.raises(ValueError, match="read-only"):
        first[:] = 0


# --- errors and cleanup ------------------------------------------------------------------------


def test_read_frames_past_end_names_both_counts(clips: dict[str, Path], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", [f"f_{i}.png" for i in range(COUNT)])
    for path in (clips["mkv"], folder):
        frames = read_frames(path, [0, 1, COUNT, COUNT + 5])
        match = f"4 different frames.* 2 were decoded.*no frame {COUNT}"
        with pytest.raises(VideoError, match=match):
            list(frames)


@pytest.mark.parametrize("indices", [[], [3, 2], [-1, 0], [0, 5, 4, 9, 10, 11, 12, 13]])
def test_read_frames_invalid_indices_raise_at_once(
    clips: dict[str, Path], indices: list[int]
) -> None:
    with pytest.raises(VideoError, match="must be sorted, non-negative and at least one"):
        read_frames(clips["mp4"], indices)


def test_read_frames_unknown_resize_raises(clips: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="known: 'bicubic', 'ffmpeg'"):
        read_frames(clips["mp4"], [0], size=8, resize="nearest")  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", ["bicubic", "ffmpeg"])
def test_read_frames_closed_early_stops_ffmpeg(
    long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: Any
) -> None:
    info = probe(long_clip)
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(original(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    frames = read_frames(info, range(9000), size=400, resize=resize)
    next(frames)
    assert started[0].poll() is None  # Control: it is running, blocked by the full pipe.
    assert list(tmp_path.iterdir())
    frames.close()
    assert started[0].poll() is not None
    assert not list(tmp_path.iterdir())
    assert len(started) == 1


def test_read_frames_unread_starts_no_process(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    read_frames(clips["mp4"], [0]).close()


def test_read_frames_real_videos_end_at_probed_count(real_videos: list[Path]) -> None:
    for path in real_videos:
        if "truncated" in path.name:
            with pytest.raises(VideoError, match="truncated, damaged"):
                list(read_frames(path, [0]))
            continue
        info = probe(path)
        last = info.num_frames - 1
        frames = read_frames(path, [0, last // 3, last // 3, last, last + 1])
        first, third, repeat, _ = (next(frames) for _ in range(4))
        assert third is repeat
        assert first.shape[-1] == 3
        match = f"4 different frames.* 3 were decoded: .*no frame {last + 1}"
        with pytest.raises(VideoError, match=match):
            next(frames)
