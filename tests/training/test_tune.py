"""`xcomp tune` as a process: killed at any moment it ends like an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xcomp_jax.config import ConfigError
from xcomp_jax.experiment import load_experiment
from xcomp_jax.training.tune import tune

REPO = Path(__file__).parents[2]
EXPERIMENT = REPO / "tests" / "training" / "tiny_experiment.py"


def start(workdir: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xcomp_jax.cli.main", "tune", "--config", str(EXPERIMENT)]
    command += ["--workdir", str(workdir), "--cache-dir", str(cache), "--quiet", *arguments]
    return subprocess.Popen(
        command,
        cwd=REPO,
        # Without LLVM's optimisations: next to nothing is computed.
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(workdir: Path, cache: Path) -> dict:
    process = start(workdir, cache)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out[: out.rindex("}") + 1])


def kill_when(workdir: Path, cache: Path, reached: Callable[[], bool]) -> None:
    """Runs until `reached`, then SIGKILL."""
    process = start(workdir, cache)
    deadline = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, f"ended before the kill: {process.communicate()[1][-3000:]}"
        assert time.monotonic() < deadline, "never got there"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def digests(workdir: Path) -> dict[str, str]:
    return json.loads((workdir / "checkpoint" / "config.json").read_text())["sha256"]


def losses(workdir: Path) -> list[tuple[str, int, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [(line["stage"], line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", name="undisturbed")
def undisturbed_fixture(folder: Path) -> Path:
    workdir = folder / "undisturbed"
    summary = finish(workdir, folder / "cache")
    assert summary == json.loads((workdir / "summary.json").read_text())
    return workdir


def test_leaves_what_it_promises(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert {"accuracy_before", "accuracy_after", "chance", "seconds"} <= summary.keys()
    assert summary["tokens_per_frame_last_layer"] == 1
    assert summary["chance"] == 0.25
    assert len(losses(undisturbed)) == 20
    assert (undisturbed / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "| all |" in (undisturbed / "report.md").read_text()
    assert (undisturbed / "checkpoint" / "tokenizer_config.json").is_file()


def test_killed_anywhere_it_ends_the_same(undisturbed: Path, folder: Path) -> None:
    workdir, cache = folder / "killed", folder / "cache"
    moments = (
        lambda: len(list((workdir / "data" / "videos").glob("*.mp4"))) >= 3,
        lambda: (workdir / "stages" / "base" / "4").is_dir(),
        lambda: (workdir / "evaluation_before.json").is_file(),
        lambda: (workdir / "stages" / "sct" / "4").is_dir(),
    )
    for reached in moments:
        kill_when(workdir, cache, reached)
        assert not (workdir / "summary.json").exists()
    finish(workdir, cache)
    assert digests(workdir) == digests(undisturbed)
    assert losses(workdir) == losses(undisturbed)
    for name in ("uncompressed", "before", "after"):
        file = f"evaluation_{name}.json"
        assert (workdir / file).read_text() == (undisturbed / file).read_text()
    # Control: the digests are of these parameters, not of any.
    before = json.loads((undisturbed / "config.json").read_text())
    assert before["seed"] == 0
    other = start(folder / "other", cache, "--set", "seed=1")
    _, err = other.communicate(timeout=300)
    assert other.returncode == 0, err[-3000:]
    assert digests(folder / "other") != digests(undisturbed)


def test_a_finished_run_only_reports(undisturbed: Path, folder: Path) -> None:
    config = load_experiment(EXPERIMENT)
    stamp = (undisturbed / "checkpoint" / "config.json").stat().st_mtime_ns
    began = time.monotonic()
    assert tune(config, undisturbed) == json.loads((undisturbed / "summary.json").read_text())
    assert time.monotonic() - began < 2
    assert (undisturbed / "checkpoint" / "config.json").stat().st_mtime_ns == stamp


def test_another_configuration_is_refused(undisturbed: Path) -> None:
    config = load_experiment(EXPERIMENT, ["seed=3"])
    with pytest.raises(ConfigError, match=r"another configuration \(differs in seed\)"):
        tune(config, undisturbed)
