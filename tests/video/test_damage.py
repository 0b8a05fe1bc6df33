"""Tests damaged, joined and truncated files: the right frames, and how many are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import ffmpeg, numbers, write_clip
from xcomp_jax.video.damage import Damage
from xcomp_jax.video.decode import count_damaged, read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.file_reader import nearest_frames
from xcomp_jax.video.packets import PacketList, fill_gaps
from xcomp_jax.video.probe import probe

H264 = ["-c:v", "libx264", "-g", "20", "-bf", "2"]
PACKET = 188  # bytes of a transport stream packet


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 numbered frames as a transport stream."""
    path = tmp_path_factory.mktemp("ts") / "whole.ts"
    return write_clip(path, 200, options=H264)


def without_bytes(source: Path, path: Path, first: int, count: int) -> Path:
    content = source.read_bytes()
    path.write_bytes(content[:first] + content[first + count :])
    return path


def packet_starts(stream: Path) -> list[int]:
    """Returns the positions of the transport packets that begin a video frame."""
    content = stream.read_bytes()
    return [
        start
        for start in range(0, len(content), PACKET)
        if content[start + 1] == 0x41 and content[start + 2] == 0
    ]


def test_read_frames_lost_packets_keep_later_numbers(stream: Path, tmp_path: Path) -> None:
    """Without the frames of one group, every other frame has its number."""
    starts = packet_starts(stream)
    first, last = starts[101], starts[105]
    path = without_bytes(stream, tmp_path / "lost.ts", first, last - first)
    info = probe(path)
    assert info.num_frames == 200
    assert info.fps == 25.0
    damage = Damage()
    read = numbers(read_frames(info, range(200), max_damaged=0.2, damage=damage))
    assert damage.lost
    assert 0 < count_damaged(info, decode=True, max_damaged=0.2) <= 40
    assert damage.lost <= set(range(100, 120))  # the group of pictures that was hit
    assert [i for i in range(200) if not 100 <= i < 120 and read[i] != i] == []
    # The same frame, whatever else is requested.
    for index in (*damage.lost, 150):
        assert numbers(read_frames(info, [index], max_damaged=1.0)) == [read[index]]
    with pytest.raises(VideoError, match=r"is damaged: .*more than the limit of 0\.0%"):
        list(read_frames(info, range(200), max_damaged=0.0))


def test_read_frames_flipped_bytes_read_every_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 200, options=H264)
    clean = list(read_frames(path, range(200)))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 3000
    content[start : start + 8] = bytes(byte ^ 0xFF for byte in content[start : start + 8])
    path.write_bytes(content)
    damage = Damage()
    frames = list(read_frames(path, range(200), max_damaged=1.0, damage=damage, threads=1))
    assert len(frames) == 200
    assert damage
    assert "decoded" in str(damage)
    equal = [np.array_equal(a, b) for a, b in zip(clean, frames, strict=True)]
    assert sum(equal) > 150
    assert not all(equal)  # Control: the flip is visible.
    with pytest.raises(VideoError, match="is damaged"):
        list(read_frames(path, range(200), max_damaged=0.0))


@pytest.mark.parametrize("offset", ["0", "7", "-0.5"])
def test_read_frames_joined_streams_read_both(stream: Path, tmp_path: Path, offset: str) -> None:
    """Two recordings joined with cat: the clock restarts, jumps back or is negative."""
    second = tmp_path / "second.ts"
    copy = ["-c", "copy", "-output_ts_offset", offset, "-avoid_negative_ts", "disabled"]
    ffmpeg("-i", str(stream), *copy, str(second))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(stream.read_bytes() + second.read_bytes())
    info = probe(joined)
    assert info.num_frames == 400
    damage = Damage()
    read = numbers(read_frames(info, range(400), damage=damage))
    assert not damage.lost
    assert read == [*range(200), *range(200)]
    assert numbers(read_frames(info, [199, 200, 399])) == [199, 0, 199]


def test_probe_truncated_file_is_read_with_partial(clips: dict[str, Path], tmp_path: Path) -> None:
    for suffix in ("mkv", "avi", "webm"):
        content = clips[suffix].read_bytes()
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(VideoError, match=r"truncated.*it holds \d+ frames.*--partial"):
            probe(path)
        info = probe(path, partial=True)
        assert 20 < info.num_frames < 75
        assert "truncated" in info.notes[0]
        read = numbers(read_frames(info, range(info.num_frames), max_damaged=0.1))
        assert read[:-5] == list(range(info.num_frames - 5))


def test_probe_zero_filled_tail_is_truncated(tmp_path: Path) -> None:
    """A preallocated download: the length is right, the end is zeros."""
    for name in ("a.mp4", "a.mkv", "a.ts"):
        options = [*H264, *(["-movflags", "+faststart"] if name == "a.mp4" else [])]
        path = write_clip(tmp_path / name, 200, block=32, options=options)
        content = path.read_bytes()
        kept = len(content) // 2
        padding = max(len(content) - kept, 1 << 15)
        path.write_bytes(content[:kept] + bytes(padding))
        with pytest.raises(VideoError, match=r"ends with zeros|ended prematurely"):
            probe(path)
        info = probe(path, partial=True)
        assert 20 < info.num_frames < 200
        read = numbers(read_frames(info, range(info.num_frames), max_damaged=0.1))
        assert read[:20] == list(range(20))


def test_fill_gaps_only_even_streams_are_filled() -> None:
    def packets(*ticks: int) -> PacketList:
        from fractions import Fraction

        return PacketList(np.array(ticks), ticks[-1] + 10, Fraction(1, 100))

    even = packets(*range(0, 200, 10), *range(210, 400, 10))
    assert fill_gaps(even).ticks.tolist() == list(range(0, 400, 10))
    assert fill_gaps(even).damaged == 1
    for other in (packets(0, 10, 20, 35, 45), packets(0, 10, 20, 900), packets(0, 10, 20)):
        assert fill_gaps(other) is other


def test_nearest_frames_prefers_same_time_then_earlier() -> None:
    from fractions import Fraction

    packets = PacketList(np.array([0, 10, 20, 20, 30, 40]), 50, Fraction(1, 100))
    everything = list(range(6))
    ticks = np.array([0, 20, 40])
    assert nearest_frames(packets, everything, ticks) == [0, 0, 1, 1, 1, 2]
    shifted = packets.ticks + 3  # As many frames as packets correspond in order.
    assert nearest_frames(packets, everything, shifted) == everything
