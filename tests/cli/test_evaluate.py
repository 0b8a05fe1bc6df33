"""Tests `xcomp evaluate` on miniature data folders, with models whose answers are known."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.layouts import (
    longvideobench_row,
    lvbench,
    niah,
    perceptiontest,
    tempcompass,
    videomme,
    write_json,
    write_parquet,
)
from tests.evaluation.scripted_model import write_scripted_model
from tests.write_video import write_video
from xcomp_jax.account import Account
from xcomp_jax.cli.main import main
from xcomp_jax.evaluation import run_benchmark, runner
from xcomp_jax.evaluation.grouping import VideoGroup
from xcomp_jax.evaluation.measured_rate import MeasuredRate
from xcomp_jax.token_store import TokenStore

Outcome = tuple[int, str, str]


@pytest.fixture(scope="module", name="root")
def root_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the models `b` and `span`, a video and a compilation cache."""
    root = tmp_path_factory.mktemp("evaluate")
    write_scripted_model(root / "b", "B")
    write_scripted_model(root / "span", "1 - 3")
    frames = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), np.uint8)
    write_video(root / "clip.mp4", frames.repeat(8, 1).repeat(8, 2), fps=4)
    return root


@pytest.fixture(name="mvbench")
def mvbench_fixture(root: Path, tmp_path: Path) -> Path:
    """Six videos with two questions each, about all and about a part; gold is B for seven."""
    data = tmp_path / "MVBench"
    rows = [
        {
            "video": f"{number}.mp4",
            "question": "Why?",
            "candidates": ["so", "thus", "never"],
            "answer": "thus" if 2 * number + part < 7 else "never",
        }
        | ({"start": 1.0, "end": 5.0} if part else {})
        for number in range(6)
        for part in range(2)
    ]
    write_json(data / "json" / "action_sequence.json", rows)
    copy_videos(root, data / "video" / "star" / "Charades_v1_480", [f"{n}.mp4" for n in range(6)])
    return data


def copy_videos(root: Path, folder: Path, names: list[str]) -> None:
    """Copies the video under several names, with a byte more each, so that the contents differ."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        shutil.copy(root / "clip.mp4", folder / name)
        with (folder / name).open("ab") as file:
            file.write(b"\0\0\0\x08free" * (number + 1))


def arguments(root: Path, data: Path, out: Path, *more: str, model: str = "b") -> list[str]:
    options = ["--benchmark", "mvbench", "--data", str(data), "--out", str(out)]
    options += ["--checkpoint", str(root / model), "--cache-dir", str(root / "cache")]
    return ["evaluate", *options, *more]


def rows_in(out: Path, benchmark: str = "mvbench") -> list[dict[str, Any]]:
    """Returns the rows of all processes by id, without times."""
    lines = [
        json.loads(line)
        for file in (out / benchmark).glob("rows*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    for line in lines:
        del line["seconds"], line["time"]
    return sorted(lines, key=lambda line: line["id"])


@pytest.fixture(name="whole")
def whole_fixture(root: Path, mvbench: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """Rows of one process."""
    assert main(arguments(root, mvbench, tmp_path / "whole")) == 0
    return rows_in(tmp_path / "whole")


def test_evaluate_clips_scores_known_share(
    root: Path, mvbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(arguments(root, mvbench, out)) == 0
    printed, err = capsys.readouterr()
    assert printed.startswith("mvbench: 58.3 % (")  # 7 of 12
    assert "6 videos, 12 questions; about 768 frames" in err  # 64 for all and for the part
    assert "6 videos are too few" in err
    rows = rows_in(out)
    assert [row["answer"] for row in rows] == ["B"] * 12
    assert {row["frames"] for row in rows} == {64}
    assert "58.3 %" in (out / "mvbench" / "report.md").read_text(encoding="utf-8")
    assert "58.3 %" in (out / "mvbench" / "report.html").read_text(encoding="utf-8")
    assert main(["evaluate", "--score-only", str(out)]) == 0
    assert capsys.readouterr().out == printed


def test_evaluate_four_shards_equal_one_process(
    root: Path, mvbench: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    for index in range(4):
        assert main(arguments(root, mvbench, out, "--shard", f"{index}/4")) == 0
    assert len(list((out / "mvbench").glob("rows*.jsonl"))) == 4
    assert rows_in(out) == whole


def test_evaluate_killed_resumes_on_two_shards(
    root: Path, mvbench: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "xcomp_jax.cli.main", *arguments(root, mvbench, out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    rows = out / "mvbench" / "rows-0-of-1.jsonl"
    while not (rows.exists() and rows.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with rows.open("a", encoding="utf-8") as file:
        file.write('{"key": "torn')
    for index in range(2):
        assert main(arguments(root, mvbench, out, "--shard", f"{index}/2")) == 0
    assert main(arguments(root, mvbench, out)) == 0
    assert rows_in(out) == whole


def test_evaluate_distributed_equals_one_process(
    root: Path, mvbench: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "distributed"
    job = {
        "SLURM_JOB_ID": str(random.SystemRandom().randrange(2**12)),  # determines the port
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
    }
    command = [sys.executable, "-m", "xcomp_jax.cli.main", *arguments(root, mvbench, out)]
    processes = [
        subprocess.Popen(
            [*command, "--distributed"],
            env={**os.environ, **job, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for task in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert len(list((out / "mvbench").glob("rows*.jsonl"))) == 2
    assert rows_in(out) == whole


def test_evaluate_missing_video_costs_its_questions(
    root: Path,
    mvbench: Path,
    whole: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, folder = tmp_path / "run", mvbench / "video" / "star" / "Charades_v1_480"
    (folder / "0.mp4").rename(tmp_path / "0.mp4")
    (folder / "1.mp4").rename(tmp_path / "1.mp4")
    (folder / "1.mp4").write_bytes(b"no video")
    capsys.readouterr()
    for _ in range(2):  # a failure that repeats adds no row
        assert main(arguments(root, mvbench, out)) == 0
    printed, err = capsys.readouterr()
    assert printed.startswith("mvbench: 25.0 % (")  # 3 of 12
    assert "4 questions failed" in err
    errors = [row["error"] for row in rows_in(out) if row["error"]]
    assert len(errors) == 4
    assert sum("0.mp4 is missing" in error for error in errors) == 2
    for name in ("0.mp4", "1.mp4"):
        (tmp_path / name).replace(folder / name)
    assert main(arguments(root, mvbench, out)) == 0
    assert capsys.readouterr().out.startswith("mvbench: 58.3 % (")
    assert [row for row in rows_in(out) if not row["error"]] == whole


def test_evaluate_zipped_videos_give_same_answers(
    root: Path, mvbench: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    folder, out = mvbench / "video" / "star", tmp_path / "zipped"
    shutil.make_archive(str(mvbench / "video" / "star"), "zip", mvbench / "video", "star")
    shutil.rmtree(folder)
    for _ in range(2):
        assert main(arguments(root, mvbench, out)) == 0
    rows = rows_in(out)
    assert [row | {"key": ""} for row in rows] == [row | {"key": ""} for row in whole]
    assert not [path for path in (out / "mvbench" / "extracted").rglob("*") if path.is_file()]


def test_evaluate_missing_haystack_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = arguments(root, niah(tmp_path / "niah"), tmp_path / "run")
    options[options.index("mvbench")] = "niah_multi"
    assert main(options) == 2
    assert "video video_haystack.mkv is missing" in capsys.readouterr().err


def test_evaluate_changed_content_is_asked_again(
    root: Path, mvbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(arguments(root, mvbench, out, "--limit", "2")) == 0
    assert len(rows_in(out)) == 2
    video = mvbench / "video" / "star" / "Charades_v1_480" / "0.mp4"
    video.write_bytes(video.read_bytes() + b"\0\0\0\x08free")
    assert main(arguments(root, mvbench, out, "--limit", "2")) == 0
    assert len({row["key"] for row in rows_in(out)}) == 4
    assert capsys.readouterr().out.count("2 questions;") == 2
    assert main(arguments(root, mvbench, out, "--limit", "2", model="span")) == 2
    assert "answers of another run (checkpoint:" in capsys.readouterr().err
    assert main(arguments(root, mvbench, out, "--frames", "32")) == 2
    assert "sampling.max_frames: 32 instead of 512" in capsys.readouterr().err


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


def test_evaluate_subtitles_missing_file_costs_question(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "LongVideoBench"
    rows = [longvideobench_row()]
    rows.append(longvideobench_row(id="v2_0", video_id="v2", video_path="v2.mp4"))
    rows[1]["subtitle_path"] = "v2_en.json"
    write_parquet(data / "validation-00000-of-00001.parquet", rows)
    subtitles = [{"timestamp": [0.0, 4.0], "text": "Good morning."}]
    write_json(data / "subtitles" / "v1_en.json", subtitles)
    copy_videos(root, data / "videos", ["v1.mp4", "v2.mp4"])
    options = arguments(root, data, tmp_path / "run")
    options[options.index("mvbench")] = "longvideobench"
    assert main(options) == 0
    assert capsys.readouterr().out.startswith("longvideobench: 50.0 % (")
    first, second = rows_in(tmp_path / "run", "longvideobench")
    assert (first["answer"], first["error"]) == ("B", "")
    assert "v2_en.json" in second["error"]


def test_evaluate_grounding_known_overlap(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "Charades"
    caption = "person turn a light on."
    rows = [
        {"video": f"{number}.mp4", "caption": caption, "timestamp": [1.0, end]}
        for number, end in enumerate((3.0, 5.0))
    ]
    write_json(data / "json" / "temporal_grounding_charades.json", rows)
    copy_videos(root, data / "videos", ["0.mp4", "1.mp4"])
    options = arguments(root, data, tmp_path / "run", model="span")
    options[options.index("mvbench")] = "charades"
    assert main(options) == 0
    assert capsys.readouterr().out.startswith("charades: 75.0 % (")  # overlaps 1 and 1/2


def test_compare_two_runs_prints_difference(
    root: Path, mvbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scripted_model(tmp_path / "c", "C")
    assert main(arguments(root, mvbench, tmp_path / "first")) == 0
    assert main(arguments(tmp_path, mvbench, tmp_path / "second", model="c")) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mvbench: difference -16.7 points")  # 5 of 12 after 7 of 12
    assert "right in one run alone: 7 in the first, 5 in the second" in out


def test_scan_benchmark_missing_video_exits_1(
    mvbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["scan", "--benchmark", "mvbench", str(mvbench)]
    assert main([*command, "--quiet"]) == 0
    (mvbench / "video" / "star" / "Charades_v1_480" / "3.mp4").unlink()
    assert main([*command, "--quiet"]) == 1
    assert "missing: 1 videos, 2 questions" in capsys.readouterr().out
    assert main([*command, "--max-bad", "0.5"]) == 2
    assert "--max-bad has no effect with --benchmark" in capsys.readouterr().err


def test_evaluate_two_benchmarks_read_folders_by_name(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    copy_videos(root, perceptiontest(data / "perceptiontest") / "videos", ["video_1.mp4"])
    videomme(data / "videomme")
    copy_videos(root, data / "videomme" / "videos", ["video1.mp4", "video2.mp4"])
    options = arguments(root, data, tmp_path / "run", "--protocol", "vcf")
    options[options.index("mvbench")] = "perceptiontest,videomme"
    assert main(options) == 0
    # One benchmark's folder may hold one of its name.
    options = arguments(root, data / "videomme", tmp_path / "run", "--protocol", "vcf")
    options[options.index("mvbench")] = "videomme"
    assert main(options) == 0
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["perceptiontest", "videomme", "videomme"]
    assert [row["id"] for row in rows_in(tmp_path / "run", "videomme")] == ["001-1", "002-1"]


def test_evaluate_ended_in_second_benchmark_keeps_first(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    copy_videos(root, perceptiontest(data / "perceptiontest") / "videos", ["video_1.mp4"])
    copy_videos(root, tempcompass(data / "tempcompass") / "videos", ["99.mp4"])
    options = arguments(root, data, out)
    options[options.index("mvbench")] = "perceptiontest,tempcompass"
    run_questions = runner.run_questions
    started = []

    def end_in_second(evaluation: runner.Evaluation, *rest: Any, **named: Any) -> bool:
        started.append(evaluation.task.name)
        if len(started) == 2:
            raise KeyboardInterrupt
        return run_questions(evaluation, *rest, **named)

    monkeypatch.setattr(run_benchmark, "run_questions", end_in_second)
    with pytest.raises(KeyboardInterrupt):
        main(options)
    first = rows_in(out, "perceptiontest")
    assert [row["answer"] for row in first] == ["B"]
    assert (out / "perceptiontest" / "report.html").is_file()
    monkeypatch.undo()
    assert main(options) == 0
    assert rows_in(out, "perceptiontest") == first
    assert [row["answer"] for row in rows_in(out, "tempcompass")] == ["B"]


@pytest.mark.parametrize(
    ("benchmark", "write", "folder", "videos", "score"),
    [
        # Gold is B for two of three questions, and C for both.
        ("lvbench", lvbench, "videos", ["00000000.mp4", "00000001.mp4"], "66.7 %"),
        ("videomme_subtitles", videomme, "data", ["video1.mp4", "video2.mp4"], "0.0 %"),
    ],
)
def test_evaluate_miniature_folder_scores_known_share(
    benchmark: str,
    write: Callable[[Path], Path],
    folder: str,
    videos: list[str],
    score: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = write(tmp_path / "data"), tmp_path / "run"
    copy_videos(root, data / folder, videos)
    options = arguments(root, data, out, "--protocol", "vcf", "--select", "all")
    options[options.index("mvbench")] = benchmark
    assert main(options) == 0
    assert capsys.readouterr().out.startswith(f"{benchmark}: {score} (")
    rows = rows_in(out, benchmark)
    assert {row["frames"] for row in rows} == {64}, "shorter than the minimum: frames repeat"
    wrong = [row for row in rows if not row["scores"]["reference"]]
    pages = {path.stem for path in (out / benchmark / "evidence").glob("*.html")}
    assert pages == {row["key"] for row in wrong}
    report = (out / benchmark / "report.html").read_text(encoding="utf-8")
    assert report.count('<details class="hard"') == len(wrong)
    assert report.count("data:image/jpeg") == 8 * len(wrong)
    for row in wrong:
        assert f'href="evidence/{row["key"]}.html"' in report


def test_evaluate_chosen_ids_asks_those(
    root: Path, mvbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = arguments(root, mvbench, tmp_path / "run")
    assert main([*options, "--ids", "action_sequence-3"]) == 0
    assert [row["id"] for row in rows_in(tmp_path / "run")] == ["action_sequence-3"]
    assert main([*options, "--ids", "x"]) == 2
    assert "no question has the id 'x'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--benchmark", "lvbench"), "has no annotations"),
        (("--benchmark", "nothing"), "unknown benchmark 'nothing'"),
        (("--benchmark", "niah_single"), "has no annotations"),
        (("--shard", "4/4"), "--shard '4/4' is not I/N"),
        (("--repeats", "2"), "--repeats has no effect without frame selection"),
        (("--protocol", "mine"), "mine: no such protocol"),
        (("--data", "nowhere"), "nowhere is not a folder"),
        (("--checkpoint", "nowhere"), "--checkpoint nowhere: no such folder"),
        (("--score-only", "nowhere"), "has no effect with --score-only"),
    ],
)
def test_evaluate_user_error_prints_one_paragraph(
    changes: tuple[str, str],
    message: str,
    root: Path,
    mvbench: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments(root, mvbench, tmp_path / "run"), *changes]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not os.path.exists(tmp_path / "run")


def test_evaluate_nothing_generated_exits_2(
    root: Path, mvbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(mvbench / "video")
    assert main(arguments(root, mvbench, tmp_path / "run")) == 2
    assert "nothing was generated for any of 12 questions" in capsys.readouterr().err
    assert len(rows_in(tmp_path / "run")) == 12
