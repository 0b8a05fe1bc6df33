"""Tests `xcomp bench video`: its readers deliver the same frames, its computed times add up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.video.clips import ffmpeg
from xcomp_jax.launch.bench.command import main
from xcomp_jax.launch.bench.video_scaling import scheduled_seconds


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 s with a key frame every 2 s, so that few frames need a part of it."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10:duration=60")
    ffmpeg(*source, "-c:v", "libx264", "-preset", "ultrafast", "-g", "20", str(path))
    return path


def test_bench_video_spans_equal_one_pass(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A Python without decord: the peer is left out, the others are measured.
    peer = ["--peer", "decord", "--peer-python", sys.executable]
    assert main(["video", str(film), "--frames", "5", *peer]) == 0
    captured = capsys.readouterr()
    assert "decord left out" in captured.err
    lines = [line.split(" | ") for line in captured.out.splitlines()[2:]]
    assert [line[2] for line in lines] == ["spans", "one-pass"]
    assert all(line[1] == "5" and float(line[4]) > 0 and int(line[5]) > 0 for line in lines)


def test_video_reader_other_count_has_another_checksum(film: Path) -> None:
    """Control of the comparison of frames."""
    program = [sys.executable, "-m", "xcomp_jax.launch.bench.video_reader", "spans", str(film)]
    runs = [
        subprocess.run([*program, count, "0", "1"], capture_output=True, check=True)
        for count in ("5", "6")
    ]
    first, second = (json.loads(run.stdout)["checksum"] for run in runs)
    assert first != second


def test_scheduled_seconds_bounds_spans_in_progress() -> None:
    assert scheduled_seconds([1.0] * 8, 1) == 8
    assert scheduled_seconds([1.0] * 8, 4) == 2
    assert scheduled_seconds([4.0, 1.0, 1.0, 1.0, 1.0], 2) == 5  # The fifth waits for the first.
    assert scheduled_seconds([], 2) == 0
