"""Tests the choice among several video streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.video.clips import ffmpeg, numbers, write_clip
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import probe
from xcomp_jax.video.streams import VideoStream, best_stream, video_streams


def two_streams(folder: Path, name: str, *options: str) -> Path:
    """Writes a file with 20 small numbered frames and 20 larger ones from number 20 on."""
    small = write_clip(folder / "small.mp4", 20, block=8)
    both = write_clip(folder / "both.mp4", 40, block=32)
    path = folder / name
    cut = ["-filter_complex", "[1:v]trim=start_frame=20,setpts=PTS-STARTPTS[large]"]
    ffmpeg("-i", str(small), "-i", str(both), *cut, "-map", "0", "-map", "[large]", *options,
           str(path))  # fmt: skip
    return path


def test_probe_two_streams_reads_the_higher_bit_rate(tmp_path: Path) -> None:
    """As decord 0.6, which ignores the default marker of the first stream."""
    path = two_streams(tmp_path, "two.mp4")
    info = probe(path)
    assert info.notes[0].startswith("read video stream 2 of 2 (1: 32x32, 20 frames, 2: 128x128")
    assert numbers(read_frames(info, range(20))) == list(range(20, 40))
    assert numbers(read_frames(path, [3])) == [23]
    first = probe(path, stream=1)
    assert numbers(read_frames(first, range(20))) == list(range(20))
    assert (first.stream, info.stream) == (None, 1)
    with pytest.raises(VideoError, match=r"no video stream 3; the file has 2"):
        probe(path, stream=3)


def test_best_stream_ranks_like_decord() -> None:
    low, high = VideoStream(0, bit_rate=100), VideoStream(1, bit_rate=900)
    assert best_stream([low, high], [50, 50]) == 1
    assert best_stream([high, low], [50, 50]) == 0
    assert best_stream([low, VideoStream(1)], [1, 5]) == 1  # a still picture and a sequence
    assert best_stream([VideoStream(0), VideoStream(1)], [50, 90]) == 0
    assert best_stream([VideoStream(0, bit_rate=9, is_substitute=True), VideoStream(1)], [9, 9])


def test_video_streams_skips_covers_and_outputs() -> None:
    messages = """[info] Input #0, mov,mp4, from 'file:a':
[info]   Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p, 640x480, 856 kb/s
[info]   Stream #0:1: Audio: aac
[info]   Stream #0:2: Video: png, rgb24, 8x8, 90k tbr (attached pic)
[info]   Stream #0:3: Video: h264, yuv420p, 320x240, 25 fps (visual impaired)
[info] Output #0, framecrc, to 'pipe:':
[info]   Stream #0:0: Video: h264, yuv420p, 640x480
"""
    first, second = video_streams(messages)
    assert first == VideoStream(0, "640x480", 856)
    assert second == VideoStream(3, "320x240", 0, is_substitute=True)
