"""Tests probe: frame counts, times and rates without decoding."""

from __future__ import annotations

import dataclasses
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video.clips import CODECS, ffmpeg, write_clip
from tests.video.conftest import COUNT
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.decode_order import parse_listing
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.packets import NO_TIME, packet_list
from xcomp_jax.video.probe import constant_rate, probe
from xcomp_jax.video.sampling import plan_frames


@pytest.mark.parametrize("suffix", CODECS)
def test_probe_any_container_counts_and_times(clips: dict[str, Path], suffix: str) -> None:
    info = probe(clips[suffix])
    assert (info.num_frames, info.fps, info.duration) == (COUNT, 25.0, COUNT / 25)
    assert not info.is_folder
    np.testing.assert_allclose(info.times, np.arange(COUNT) / 25, atol=0.01)


def test_probe_edit_list_excludes_hidden_frames(cut_clip: Path) -> None:
    info = probe(cut_clip)
    assert info.num_frames == 50
    assert info.duration == 2.0
    assert info.times[0] == 0.0


def test_probe_uneven_spacing_gives_average_rate(uneven_clip: Path) -> None:
    info = probe(uneven_clip)
    assert info.num_frames == 60
    expected = [0.24 * i for i in range(30)] + [7.2 + 0.04 * i for i in range(30)]
    np.testing.assert_allclose(info.times, expected, atol=0.0015)
    assert info.fps == pytest.approx(60 / 8.4, rel=0.01)
    assert info.duration * info.fps == pytest.approx(60)


def test_probe_matroska_rounding_keeps_duration(tmp_path: Path) -> None:
    """Matroska rounds times to milliseconds; 9.999 s would lose the tenth clip of 8 frames."""
    for fps, seconds in (("30", 10.0), ("30000/1001", 10.01)):
        info = probe(write_clip(tmp_path / "ten.mkv", 300, fps=fps, block=4))
        assert info.fps == float(Fraction(fps))
        assert info.duration == pytest.approx(seconds, abs=1e-12)
    info = probe(write_clip(tmp_path / "ten.mkv", 300, fps="30", block=4))
    plan = plan_frames(info, fps=8, min_frames=8, max_frames=512)
    assert plan.num_frames == 80
    rounded = dataclasses.replace(info, duration=9.999, fps=300 / 9.999)  # Control
    assert plan_frames(rounded, fps=8, min_frames=8, max_frames=512).num_frames == 72


def test_constant_rate_rounded_ticks_give_exact_rate() -> None:
    millisecond = Fraction(1, 1000)
    assert constant_rate([0, 33, 67, 100, 133], millisecond) == 30.0
    assert constant_rate([0, 40, 80, 120], millisecond) == 25.0
    assert constant_rate([0, 3, 6, 9, 12], Fraction(1, 100)) == pytest.approx(100 / 3)
    assert constant_rate([round(i * 1001 / 24) for i in range(200)], millisecond) == 24000 / 1001
    assert constant_rate([0, 80, 160], millisecond) == 12.5
    assert constant_rate([0, 40, 120, 160], millisecond) is None
    assert constant_rate([7], millisecond) is None


def test_packet_list_skips_empty_and_hidden() -> None:
    listing = b"""#tb 0: 1/10
#media_type 0: video
0, -99, 3, 1, 99, 0x00000001
0, -98, 1, 1, 99, 0x00000001, F=0x0
0, -97, 2, 1, 0, 0x00000000, F=0x0
0, -96, 0, 1, 99, 0x00000001, F=0x5
0, -95, 4, 2, 99, 0x00000001, F=0x0, S=1, Something, 1, 0x0
"""
    packets = packet_list(parse_listing(listing))
    assert packets.ticks.tolist() == [1, 3, 4]
    assert (packets.end, packets.time_base, packets.is_timed) == (6, Fraction(1, 10), True)
    untimed = listing.replace(b"-98, 1,", b"-98, %d," % NO_TIME)
    assert not packet_list(parse_listing(untimed)).is_timed


def test_read_frames_rotated_video_is_upright(tmp_path: Path) -> None:
    flat, rotated = tmp_path / "flat.mp4", tmp_path / "rotated.mp4"
    ffmpeg(*("-f", "lavfi", "-i", "testsrc=size=64x32:rate=10:duration=1"), str(flat))
    ffmpeg("-display_rotation", "90", "-i", str(flat), "-c", "copy", str(rotated))
    for path, size in ((flat, (64, 32)), (rotated, (32, 64))):
        assert next(read_frames(path, [0])).shape == (*size[::-1], 3)


def test_probe_cover_picture_is_ignored(clips: dict[str, Path], tmp_path: Path) -> None:
    cover, path = tmp_path / "cover.png", tmp_path / "covered.mp4"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(cover)
    inputs = ("-i", str(cover), "-i", str(clips["mp4"]), "-map", "0", "-map", "1")
    ffmpeg(*inputs, "-c", "copy", "-disposition:v:0", "attached_pic", str(path))
    assert probe(path).num_frames == COUNT


# --- folders -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    for i in range(12):
        Image.fromarray(np.zeros((6, 10, 3), np.uint8)).save(path / f"f_{i}.png")
    return path


def test_probe_folder_is_one_image_per_second(folder: Path) -> None:
    info = probe(folder)
    assert (info.num_frames, info.fps, info.duration, info.is_folder) == (12, 1.0, 12.0, True)
    assert info.times.tolist() == list(range(12))
    assert probe(folder, folder_fps=3.0).duration == 4.0
    with pytest.raises(ValueError, match="folder_fps"):
        probe(folder, folder_fps=0)


def test_probe_folder_reads_duration_from_sidecar(folder: Path) -> None:
    folder.with_name("frames.json").write_text('{"duration": 48}')
    info = probe(folder)
    assert (info.duration, info.fps, info.times[1]) == (48.0, 0.25, 4.0)


@pytest.mark.parametrize("text", ["[1]", "{}", '{"duration": "9"}', '{"duration": 0}', "{", "NaN"])
def test_probe_folder_invalid_sidecar_raises(folder: Path, text: str) -> None:
    folder.with_name("frames.json").write_text(text)
    with pytest.raises(VideoError, match=r"frames\.json"):
        probe(folder)


def test_video_error_pickled_keeps_message() -> None:
    error = VideoError("a.mp4", "too short", "Use another.")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "a.mp4: too short. Use another."


def test_probe_real_videos_equals_decoded_counts(real_videos: list[Path]) -> None:
    """The expected counts were obtained by decoding every frame."""
    counts = {
        "bikes.mp4": 250,
        "display-dual-monitors.webm": 557,
        "movie-hello.avi": 208,
        "movie-hello.mp4": 249,  # 250 packets, the last hidden
        "movie-hello.ogg": 242,  # 249 packets, 7 of them empty
        "trailer_bbb.mp4": 1323,
    }
    for path in real_videos:
        if path.name in counts:
            assert probe(path).num_frames == counts[path.name], path.name
