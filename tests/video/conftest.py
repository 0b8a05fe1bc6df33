from __future__ import annotations

from pathlib import Path

import pytest

from tests.video.clips import CODECS, ffmpeg, write_clip

SHARED_VIDEOS = Path(__file__).parents[3] / "shared" / "videos"

COUNT = 75
"""Frames of every clip in `clips`: 3 s at 25 per second."""


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One numbered clip of COUNT frames per container, by suffix."""
    folder = tmp_path_factory.mktemp("clips")
    return {suffix: write_clip(folder / f"clip.{suffix}", COUNT) for suffix in CODECS}


@pytest.fixture(scope="session")
def cut_clip(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clips["mp4"]` from 1.0 s on by an edit list, which hides the frames up to 24."""
    path = tmp_path_factory.mktemp("cut") / "cut.mp4"
    ffmpeg("-ss", "1.0", "-i", str(clips["mp4"]), "-c", "copy", str(path))
    return path


@pytest.fixture(scope="session")
def uneven_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 numbered frames 0.24 s apart, then 30 at 25 per second (Matroska)."""
    path = tmp_path_factory.mktemp("uneven") / "uneven.mkv"
    times = "setpts='if(lt(N,30),N*0.24,7.2+(N-30)*0.04)/TB'"
    options = ["-vf", f"settb=1/1000,{times}", "-fps_mode", "passthrough", "-c:v", "libx264"]
    return write_clip(path, 60, options=[*options, "-bf", "0"])


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9000 small numbered frames at 30 per second."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    options = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "120"]
    return write_clip(path, 9000, fps="30", block=8, options=options)


@pytest.fixture
def real_videos() -> list[Path]:
    if not SHARED_VIDEOS.is_dir():
        pytest.skip(f"{SHARED_VIDEOS} does not exist; generated clips cover the same code")
    return sorted(SHARED_VIDEOS.iterdir())
