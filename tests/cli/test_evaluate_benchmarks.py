"""Tests `xcomp evaluate` on miniature folders of several benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.evaluate_runs import arguments, copy_videos, rows_in
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
from xcomp_jax.cli.main import main
from xcomp_jax.evaluation import run_benchmark, runner


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
    printed, err = capsys.readouterr()
    assert printed.startswith(f"{benchmark}: {score} (")
    # Without its files, Video-MME's rule leaves the subtitles out.
    warns = benchmark == "videomme_subtitles"
    for text in (err, (out / benchmark / "report.md").read_text(encoding="utf-8")):
        assert ("2 of 2 subtitle files are missing" in text) == warns
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


def test_evaluate_missing_haystack_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = arguments(root, niah(tmp_path / "niah"), tmp_path / "run")
    options[options.index("mvbench")] = "niah_multi"
    assert main(options) == 2
    assert "video video_haystack.mkv is missing" in capsys.readouterr().err


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
    scores = capsys.readouterr().out
    run, moved = str(tmp_path / "run"), str(data.rename(tmp_path / "moved"))
    assert main(["evaluate", "--score-only", run, "--data", moved]) == 0
    assert capsys.readouterr().out == scores
    assert main(["compare", run, run, "--data", moved]) == 0
    assert capsys.readouterr().out.count("difference +0.0 points") == 2
    Path(moved).rename(data)
    # One benchmark's folder may hold one of its name.
    options = arguments(root, data / "videomme", tmp_path / "run", "--protocol", "vcf")
    options[options.index("mvbench")] = "videomme"
    assert main(options) == 0
    scores += capsys.readouterr().out
    names = [line.split(":")[0] for line in scores.splitlines()]
    assert names == ["perceptiontest", "videomme", "videomme"]
    assert [row["id"] for row in rows_in(tmp_path / "run", "videomme")] == ["001-1", "002-1"]


def test_evaluate_ended_in_second_benchmark_keeps_first(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
