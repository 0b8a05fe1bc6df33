"""Tests what `xcomp evaluate` encodes, and its forecasts of work, bytes and time."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.evaluate_runs import arguments, copy_videos, rows_in
from tests.evaluation.layouts import write_json
from xcomp_jax.account import Account
from xcomp_jax.cli.main import main
from xcomp_jax.evaluation.grouping import VideoGroup
from xcomp_jax.evaluation.measured_rate import MeasuredRate
from xcomp_jax.token_store import TokenStore


@pytest.fixture(name="encoded")
def encoded_fixture(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the numbers of encoded clips."""
    counts: list[int] = []
    add_work = Account.add_work

    def record(account: Account, name: str, amount: int) -> None:
        if name == "clips encoded":
            counts.append(amount)
        add_work(account, name, amount)

    monkeypatch.setattr(Account, "add_work", record)
    return counts


@pytest.mark.parametrize("selected", [pytest.param("all", marks=pytest.mark.slow), "16"])
def test_evaluate_ten_questions_encode_a_video_once(
    selected: str,
    root: Path,
    tmp_path: Path,
    encoded: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "MLVU"
    row = {
        "video": "long.mp4",
        "duration": 8.0,
        "candidates": ["2", "1"],
        "answer": "1",
        "question_type": "count",
    }
    write_json(
        data / "json" / "4_count.json",
        [row | {"question": f"How many {number}?"} for number in range(10)],
    )
    copy_videos(root, data / "video" / "4_count", ["long.mp4"])
    clips = []
    for limit in (1, 10):
        out = tmp_path / f"{limit}"
        options = arguments(root, data, out, "--limit", f"{limit}", "--select", selected)
        options[options.index("mvbench")] = "mlvu"
        with Account():
            assert main([*options, "--batch-size", "4"]) == 0
        assert len(rows_in(out, "mlvu")) == limit
        clips.append(sum(encoded))
        encoded.clear()
        forecast = re.search(r"([0-9,]+) encoded clips", capsys.readouterr().err)
        assert forecast is not None
        if limit == 1:
            assert int(forecast[1]) == pytest.approx(clips[0], rel=0.3)
    if selected == "all":
        assert clips == [32, 32]  # 128 frames in clips of 4
    # The model scores all frames alike, so that every question selects the same 16.
    assert clips[1] <= 1.3 * clips[0]


def stored_bytes(root: Path) -> int:
    """Returns the size of all stored tokens; without the padding of files to 64 KiB."""
    store = TokenStore(root)
    keys = [video.key for video in store.contents() if video.key is not None]
    return sum(
        clip.nbytes for key in keys for clip in store.video(key).read(range(key.num_clips)).values()
    )


def test_evaluate_with_filled_store_encodes_nothing(
    root: Path,
    mvbench: Path,
    whole: list[dict[str, Any]],
    tmp_path: Path,
    encoded: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = []
    for name in ("first", "second"):
        encoded.clear()
        options = arguments(root, mvbench, tmp_path / name, "--store", str(tmp_path / "store"))
        with Account():
            assert main(options) == 0
        assert rows_in(tmp_path / name) == whole
        counts.append(sum(encoded))
        forecast = re.search(r"([0-9.e-]+) GB of stored", capsys.readouterr().err)
        assert forecast is not None
        stored = stored_bytes(tmp_path / "store")
        assert float(forecast[1]) * 1e9 == pytest.approx(stored, rel=0.3)
    assert counts == [192, 0]  # six videos, all and a part, 64 frames each in clips of 4


@pytest.mark.slow
def test_evaluate_forecast_time_within_30_percent(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, number = tmp_path / "MLVU", 24
    rows = [
        {
            "video": f"{video}.mp4",
            "duration": 8.0,
            "question": f"How many {part}?",
            "candidates": ["2", "1"],
            "answer": "1",
            "question_type": "count",
        }
        for video in range(number)
        for part in range(1 + video % 3)
    ]
    write_json(data / "json" / "4_count.json", rows)
    copy_videos(root, data / "video" / "4_count", [f"{video}.mp4" for video in range(number)])
    times, forecasts = [], []
    add = MeasuredRate.add

    def timed(rate: MeasuredRate, group: VideoGroup, seconds: float) -> None:
        add(rate, group, seconds)
        times.append(time.perf_counter())
        if len(times) == 3:
            forecasts.append(rate.remaining_seconds)

    monkeypatch.setattr(MeasuredRate, "add", timed)
    options = arguments(root, data, tmp_path / "run", "--select", "all")
    options[options.index("mvbench")] = "mlvu"
    assert main(options) == 0
    print(f"forecast {forecasts[0]:.2f} s, measured {times[-1] - times[2]:.2f} s")
    assert forecasts[0] == pytest.approx(times[-1] - times[2], rel=0.3)
