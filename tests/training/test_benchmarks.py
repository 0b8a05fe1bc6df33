"""Tests benchmarks during training: scores, interruption, and no influence on training."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.layouts import write_json
from tests.training.tune_processes import (
    EXPERIMENTS,
    TuneProcess,
    losses,
    start,
    start_together,
    wait_until,
)
from tests.write_video import write_video
from xcomp_jax.config import BenchmarkConfig, ConfigError
from xcomp_jax.experiment import load_experiment
from xcomp_jax.training.benchmarks import due_benchmarks

EXPERIMENT = "tiny_one_stage.py"
VIDEOS = 5
EXIT_CONTINUE = 75

PROTOCOL = """
import dataclasses
from xcomp_jax.config import SamplingConfig, to_dict
from xcomp_jax.evaluation.protocol import load_protocol


def get_config():
    sampling = SamplingConfig(fps=4, min_frames=8, max_frames=8)
    protocol = dataclasses.replace(load_protocol("mvbench"), sampling=sampling, max_new_tokens=4)
    return to_dict(protocol)
"""


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of five videos with a question each, and its protocol."""
    folder = tmp_path_factory.mktemp("runs")
    rows = [
        {
            "video": f"{number}.mp4",
            "question": "Why?",
            "candidates": ["so", "thus", "never"],
            "answer": "thus",
        }
        for number in range(VIDEOS)
    ]
    write_json(folder / "MVBench" / "json" / "action_count.json", rows)
    videos = folder / "MVBench" / "video" / "perception" / "videos"
    videos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in rows:
        frames = rng.integers(0, 256, (16, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        write_video(videos / str(row["video"]), frames, fps=4)
    (folder / "protocol.py").write_text(PROTOCOL, encoding="utf-8")
    return folder


def setting(folder: Path, **changes: Any) -> str:
    """Returns an override of the configuration with one benchmark, every four of eight steps."""
    benchmark = {
        "name": "mvbench",
        "data": str(folder / "MVBench"),
        "protocol": str(folder / "protocol.py"),
        "every_steps": 4,
        **changes,
    }
    return f"benchmarks={[benchmark]!r}"


def begin(folder: Path, name: str) -> TuneProcess:
    return start(EXPERIMENT, folder / name, folder / "cache", "--set", setting(folder))


def scores(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "benchmarks.jsonl").read_text().splitlines()]


def answers(workdir: Path) -> dict[str, list[tuple[str, str]]]:
    """Returns ids and answers by folder, such as sct-4-0123abcd."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file in sorted(workdir.glob("benchmarks/*/mvbench/rows*.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found.setdefault(file.parent.parent.name, []).extend((r["id"], r["answer"]) for r in rows)
    return {name: sorted(rows) for name, rows in found.items()}


@pytest.fixture(scope="module", name="undisturbed")
def undisturbed_fixture(folder: Path) -> Path:
    begin(folder, "undisturbed").wait_for_success()
    return folder / "undisturbed"


def test_tune_benchmark_logged_and_shown(undisturbed: Path) -> None:
    lines = scores(undisturbed)
    assert [(line["stage"], line["step"]) for line in lines] == [("sct", 4), ("sct", 8)]
    assert all(line["benchmark"] == "mvbench" and line["questions"] == VIDEOS for line in lines)
    assert all(line["low"] <= line["score"] <= line["high"] for line in lines)
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["benchmarks"] == {"mvbench": lines[1]["score"]}
    assert "| mvbench | sct | 8 |" in (undisturbed / "report.md").read_text()
    reports = list(undisturbed.glob("benchmarks/sct-*/mvbench/report.html"))
    assert len(reports) == 2
    assert len(answers(undisturbed)) == 2


@pytest.mark.slow
def test_tune_with_benchmark_trains_the_same(undisturbed: Path, folder: Path) -> None:
    start(EXPERIMENT, folder / "without", folder / "cache").wait_for_success()
    assert losses(folder / "without") == losses(undisturbed)
    digests = [
        json.loads((workdir / "checkpoint" / "config.json").read_text())["sha256"]
        for workdir in (folder / "without", undisturbed)
    ]
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_tune_interrupted_in_benchmark_continues_it(
    number: signal.Signals, undisturbed: Path, folder: Path
) -> None:
    workdir = folder / number.name
    run = begin(folder, number.name)
    wait_until(lambda: bool(sum(map(len, answers(workdir).values()))), run)
    run.send(number)
    code = run.exit_code()
    assert code == (-number if number == signal.SIGKILL else EXIT_CONTINUE), run.output()[-3000:]
    (rows,) = answers(workdir).values()
    assert len(rows) < VIDEOS, "the benchmark was interrupted"
    assert not (workdir / "benchmarks.jsonl").exists() or scores(workdir) == []
    begin(folder, number.name).wait_for_success()
    assert scores(workdir) == scores(undisturbed)
    assert answers(workdir) == answers(undisturbed), "no question is asked twice"
    assert losses(workdir) == losses(undisturbed)


@pytest.mark.slow
def test_two_processes_divide_a_benchmark(undisturbed: Path, folder: Path) -> None:
    workdir, override = folder / "two", setting(folder)
    for process in start_together(2, EXPERIMENT, workdir, folder / "cache", "--set", override):
        process.wait_for_success()
    parts = list(workdir.glob("benchmarks/sct-8-*/mvbench/rows-*-of-2.jsonl"))
    assert len(parts) == 2
    assert [len(rows) for rows in answers(workdir).values()] == [VIDEOS, VIDEOS]
    assert [line["step"] for line in scores(workdir)] == [4, 8]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "nowhere"}, "nowhere is not a folder"),
        ({"name": "mvbnch"}, "unknown benchmark 'mvbnch'"),
        ({"name": "videomme"}, "has no annotations"),
        ({"limit": 0}, "benchmark mvbench: limit=0 must be at least 1, or None"),
        ({"every_steps": 0}, "benchmark mvbench: every_steps=0 must be at least 1, or None"),
        ({"protocol": "mine"}, "mine: no such protocol"),
    ],
)
def test_tune_wrong_benchmark_stops_before_training(
    changes: dict[str, Any],
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from xcomp_jax.cli.main import main

    command = ["tune", "--config", str(EXPERIMENTS / EXPERIMENT), "--workdir", str(tmp_path / "w")]
    changes = {"protocol": "published", **changes}
    assert main([*command, "--set", setting(folder, **changes)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "w").exists()


def test_due_benchmarks_by_their_own_interval() -> None:
    config = load_experiment(
        EXPERIMENTS / EXPERIMENT,
        ["benchmarks=[{'name':'a','data':'d','every_steps':2},{'name':'b','data':'d'}]"],
    )
    due = {step: [b.name for b in due_benchmarks(config, step)] for step in range(5)}
    assert due == {0: [], 1: [], 2: ["a"], 3: [], 4: ["a"]}
    with pytest.raises(ConfigError, match=r"names of benchmarks \['a', 'a'\] must differ"):
        load_experiment(
            EXPERIMENTS / EXPERIMENT,
            ["benchmarks=[{'name':'a','data':'d'},{'name':'a','data':'d'}]"],
        )
    with pytest.raises(ConfigError, match="data is empty"):
        BenchmarkConfig(name="a", data="")
