"""Tests `xcomp evaluate` on a miniature benchmark, with models whose answers are known."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.evaluate_runs import arguments, rows_in
from tests.evaluation.scripted_model import write_scripted_model
from xcomp_jax.cli.main import main


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


def test_evaluate_chosen_ids_asks_those(
    root: Path, mvbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = arguments(root, mvbench, tmp_path / "run")
    assert main([*options, "--ids", "action_sequence-3"]) == 0
    assert [row["id"] for row in rows_in(tmp_path / "run")] == ["action_sequence-3"]
    assert main([*options, "--ids", "x"]) == 2
    assert "no question has the id 'x'" in capsys.readouterr().err


@pytest.mark.parametrize("part", [("--ids", "action_sequence-3"), ("--limit", "2")])
def test_evaluate_part_again_keeps_report_of_whole(
    part: tuple[str, str],
    root: Path,
    mvbench: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = arguments(root, mvbench, tmp_path / "run")
    assert main(options) == 0
    report = tmp_path / "run" / "mvbench" / "report.md"
    whole, printed = report.read_bytes(), capsys.readouterr().out
    assert main([*options, *part]) == 0
    assert report.read_bytes() == whole
    assert capsys.readouterr().out == printed


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
