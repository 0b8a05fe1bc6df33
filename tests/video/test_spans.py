"""Tests that frames from spans equal those of one pass, bit for bit, in every container at hand."""

from __future__ import annotations

import dataclasses
import logging
import random
from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import CODECS
from tests.video.conftest import SHARED_VIDEOS
from tests.video.odd_files import write_odd_files
from xcomp_jax.account import Account
from xcomp_jax.video import file_reader, read_plan
from xcomp_jax.video.access_points import Access
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.decode_order import KEY
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.packet_bytes import PacketBytes
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.read_plan import Group, ReadPlan, Span
from xcomp_jax.video.span_process import SpanError, TimedFrames, span_frames

WITH_SPANS = {
    *("closed.mp4", "intra.mp4", "pyramid.mkv", "h264.flv", "fields.mp4", "cut.mp4"),
    *("hevc_open.mp4", "hevc_open.mkv", "hevc_closed.mp4", "hevc_layers.mp4", "hevc_radl.mp4"),
    *("cut_hevc.mp4", "av1.mp4", "av1.mkv", "vp9.webm", "mpeg4.mp4", "mjpeg.mov", "late.mp4"),
    *("no_cues.mkv", "two.mkv", "uneven.mp4", "vp8_altref.webm", "turned.mp4"),
}
"""Odd files of which at least one frame is read from a span; the others are read in one pass."""


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_odd_files(tmp_path_factory.mktemp("odd"))


@pytest.fixture
def span_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Has every possible read use several spans; lists the files whose spans were read whole."""
    monkeypatch.setattr(read_plan, "MIN_SAVING", -1e9)
    monkeypatch.setattr(read_plan, "MIN_SPAN_SECONDS", 0.0)
    read: list[Path] = []

    class Recorded(file_reader.SpanReader):
        def frames(self, spans: list[Span]) -> TimedFrames:  # type: ignore[override]
            last = spans[-1].ticks[-1]
            for tick, frame in super().frames(spans):
                if tick == last:
                    read.append(self._path)
                yield tick, frame

    monkeypatch.setattr(file_reader, "SpanReader", Recorded)
    return read


def one_pass(info: VideoInfo) -> list[np.ndarray]:
    """Reads all frames of a video in one pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_reader, "plan_read", lambda *_, **__: ReadPlan(reason="test"))
        return list(read_frames(info, range(info.num_frames), max_damaged=1.0))


def drawn(draw: random.Random, num_frames: int) -> list[int]:
    return sorted(draw.sample(range(num_frames), min(draw.randint(1, 6), num_frames)))


def misses(info: VideoInfo, indices: list[int], expected: list[np.ndarray]) -> int:
    """Returns the number of frames that differ from those of one pass."""
    frames = read_frames(info, indices, max_damaged=1.0, threads=2)
    pairs = zip(indices, frames, strict=True)
    return sum(not np.array_equal(frame, expected[index]) for index, frame in pairs)


def check_pairs(files: dict[str, Path], span_reads: list[Path], seed: int, rounds: int) -> None:
    """Draws `rounds` lists of indices per file and compares both readers."""
    draw = random.Random(seed)
    for name, path in files.items():
        info = probe(path, partial=True)
        expected = one_pass(info)
        before = len(span_reads)
        for _ in range(rounds):
            indices = drawn(draw, info.num_frames)
            assert misses(info, indices, expected) == 0, f"{name}: {indices}"
        if name in WITH_SPANS:
            assert len(span_reads) > before, f"{name} was read in one pass"


def test_read_frames_spans_equal_one_pass(
    odd_files: dict[str, Path], span_reads: list[Path]
) -> None:
    names = ("closed.mp4", "hevc_open.mkv", "cut.mp4", "open.mp4", "av1.mp4", "damaged.mp4")
    names += ("sizes.mkv", "turned.mp4")
    check_pairs({name: odd_files[name] for name in names}, span_reads, seed=0, rounds=2)


@pytest.mark.slow
def test_read_frames_200_pairs_equal_one_pass(
    odd_files: dict[str, Path], clips: dict[str, Path], span_reads: list[Path]
) -> None:
    real = sorted(SHARED_VIDEOS.iterdir()) if SHARED_VIDEOS.is_dir() else []
    files = {**odd_files, **{f"clip.{suffix}": clips[suffix] for suffix in CODECS}}
    files |= {path.name: path for path in real if "truncated" not in path.name}
    check_pairs(files, span_reads, seed=1, rounds=-(-200 // len(files)))


def test_spans_next_frame_misses(odd_files: dict[str, Path], span_reads: list[Path]) -> None:
    """Control: a reader that is off by one frame differs at every position."""
    info = probe(odd_files["closed.mp4"])
    expected = one_pass(info)
    indices = [5, 30, 62, 90]
    assert misses(info, indices, expected[1:]) == len(indices)


def test_span_frames_wrong_start_is_refused(odd_files: dict[str, Path], tmp_path: Path) -> None:
    """Control: decoding from within a group, or from a later one, delivers nothing."""
    for name in ("closed.mp4", "hevc_open.mp4", "av1.mp4"):
        info = probe(odd_files[name])
        packets = info.packets
        assert packets is not None
        assert packets.decode_order is not None
        tick = int(packets.ticks[30])
        right = read_plan.group_frames(packets, [tick], AnyKey())[0]
        for first in (right.first + 2, right.first + 12):
            group = dataclasses.replace(right, first=first, last=max(first, right.last))
            span = Span((group,), seeks=True)
            frames = span_frames(
                *(info.path, packets, span),
                size=None,
                threads=1,
                timeout=60,
                started=lambda process: None,
            )
            with pytest.raises((SpanError, VideoError)):
                list(frames)


class AnyKey:
    """Takes every key frame as an open start of decoding."""

    def access(self, number: int) -> Access:
        return Access.OPEN


def test_group_frames_leading_picture_needs_earlier_group(odd_files: dict[str, Path]) -> None:
    packets = probe(odd_files["hevc_open.mp4"]).packets
    assert packets is not None
    order = packets.decode_order
    assert order is not None
    keys = np.flatnonzero(order.flags & 1)
    leading = int(order.ticks[keys[2] + 1])
    assert leading < order.ticks[keys[2]]
    (group,) = read_plan.group_frames(packets, [leading], AnyKey())
    assert group == Group(int(keys[1]), int(keys[2]) + 1, (leading,), Access.OPEN)


def test_read_frames_one_pass_states_reason(
    odd_files: dict[str, Path], span_reads: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    reasons = {
        "h264.ts": "no certain starts of decoding",
        "b_frames.avi": "no presentation times",
        "mpeg2.mkv": "codec mpeg2video",
    }
    for name, reason in reasons.items():
        caplog.clear()
        with caplog.at_level(logging.INFO), Account() as account:
            list(read_frames(odd_files[name], [3, 60]))
        assert reason in caplog.text, name
        assert any(reason in work for work in account.work), name
    assert not span_reads


def test_access_recovery_point_is_no_start(odd_files: dict[str, Path]) -> None:
    """Frames after a key frame that is no IDR picture may need frames before it."""
    for name, closed in (("closed.mp4", None), ("open.mp4", 1), ("refresh.mp4", 1)):
        info = probe(odd_files[name])
        assert info.packets is not None
        order = info.packets.decode_order
        assert order is not None
        keys = np.flatnonzero(order.flags & KEY)
        assert len(keys) > 4, name
        with PacketBytes(info.path, order) as roles:
            kinds = [roles.access(int(key)) for key in keys]
        assert kinds.count(Access.CLOSED) == (closed or len(keys)), name
