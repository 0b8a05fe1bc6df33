"""`xcomp tune` as a process: killed at any moment it ends like an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training.processes import EXPERIMENTS, losses, metrics, start, wait_until
from xcomp_jax.checkpoint import CheckpointError, load_params
from xcomp_jax.config import ConfigError
from xcomp_jax.experiment import load_experiment
from xcomp_jax.training.export import export_newest
from xcomp_jax.training.tune import tune

EXPERIMENT = "tiny_experiment.py"


def digests_in(checkpoint: Path) -> dict[str, str]:
    return json.loads((checkpoint / "config.json").read_text())["sha256"]


def digests(workdir: Path) -> dict[str, str]:
    return digests_in(workdir / "checkpoint")


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", name="undisturbed")
def undisturbed_fixture(folder: Path) -> Path:
    workdir = folder / "undisturbed"
    start(EXPERIMENT, workdir, folder / "cache").finished()
    return workdir


def test_leaves_what_it_promises(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert {"accuracy_before", "accuracy_after", "chance", "seconds"} <= summary.keys()
    assert summary["tokens_per_frame_last_layer"] == 1
    assert summary["chance"] == 0.25
    assert len(losses(undisturbed)) == 10
    assert (undisturbed / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "| all |" in (undisturbed / "report.md").read_text()
    assert (undisturbed / "checkpoint" / "tokenizer_config.json").is_file()


def test_every_step_is_accounted_for(undisturbed: Path) -> None:
    for line in metrics(undisturbed):
        assert line["frames_per_second"] * line["seconds"] == pytest.approx(4 * 8, rel=0.01)
        assert line["tokens_per_second"] * line["seconds"] == pytest.approx(
            line["tokens"], rel=0.01
        )
        assert line["tokens"] > 4 * 8 * 4, "text counts too"
        assert line["data_seconds"] >= 0
        assert 0.1 < line["host_gib"] < 10
        assert "mfu" not in line, "nobody knows the peak of this CPU"
    # Not step by step: a batch is waited for while the step before it runs.
    waited, all_seconds = (
        sum(line[name] for line in metrics(undisturbed)) for name in ("data_seconds", "seconds")
    )
    assert waited < all_seconds


def test_digests_are_of_the_parameters(undisturbed: Path) -> None:
    _, params = load_params(undisturbed / "checkpoint")
    scale = np.asarray(params["llm"]["norm"]["scale"])
    name = "llm/norm/scale"
    assert hashlib.sha256(scale.tobytes()).hexdigest() == digests(undisturbed)[name]
    other = np.nextafter(scale, 2, dtype=scale.dtype)
    assert hashlib.sha256(other.tobytes()).hexdigest() != digests(undisturbed)[name]


def test_stopped_anywhere_it_ends_the_same(undisturbed: Path, folder: Path) -> None:
    workdir, cache = folder / "stopped", folder / "cache"
    moments = (
        (signal.SIGKILL, lambda: len(list((workdir / "data" / "videos").glob("*.mp4"))) >= 3),
        (signal.SIGKILL, lambda: (workdir / "stages" / "base" / "2").is_dir()),
        (signal.SIGKILL, lambda: (workdir / "evaluation_uncompressed.json").is_file()),
        (signal.SIGKILL, lambda: (workdir / "stages" / "sct" / "2").is_dir()),
    )
    for number, reached in moments:
        run = start(EXPERIMENT, workdir, cache)
        wait_until(reached, run)
        assert run.process.pid is not None
        os.kill(run.process.pid, number)
        assert run.ended() == -number
        assert not (workdir / "summary.json").exists()
    start(EXPERIMENT, workdir, cache).finished()
    assert digests(workdir) == digests(undisturbed)
    assert losses(workdir) == losses(undisturbed)
    for name in ("uncompressed", "before", "after"):
        file = f"evaluation_{name}.json"
        assert (workdir / file).read_text() == (undisturbed / file).read_text()


def test_the_newest_parameters_can_be_exported(undisturbed: Path, tmp_path: Path) -> None:
    # As a run leaves it that is saving at this moment.
    half_saved = undisturbed / "stages" / "sct" / "99.orbax-checkpoint-tmp"
    half_saved.mkdir()
    assert export_newest(undisturbed, tmp_path / "exported").name == "sct"
    assert digests_in(tmp_path / "exported") == digests(undisturbed)
    half_saved.rmdir()
    with pytest.raises(ConfigError, match=r"holds no run: there is no config\.json"):
        export_newest(tmp_path, tmp_path / "again")


def test_a_damaged_checkpoint_is_named(undisturbed: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed, workdir)
    newest = max((workdir / "stages" / "sct").iterdir(), key=lambda path: int(path.name))
    for data in newest.rglob("d/*"):
        data.write_bytes(data.read_bytes()[:10])
    for name in ("summary.json", "evaluation_after.json"):
        (workdir / name).unlink()
    with pytest.raises(ConfigError, match=rf"checkpoint .*/sct/{newest.name} is damaged"):
        export_newest(workdir, tmp_path / "exported")
    with pytest.raises(ConfigError, match=rf"checkpoint .*/sct/{newest.name} is damaged"):
        tune(load_experiment(EXPERIMENTS / EXPERIMENT), workdir)
    shutil.rmtree(newest)
    assert export_newest(workdir, tmp_path / "exported").name == "sct"


def test_what_cannot_begin_takes_no_folder(tmp_path: Path) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT, ["init_from=/nowhere"])
    with pytest.raises(CheckpointError, match="/nowhere"):
        tune(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_only_reports(undisturbed: Path) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT)
    stamp = (undisturbed / "checkpoint" / "config.json").stat().st_mtime_ns
    began = time.monotonic()
    assert tune(config, undisturbed) == json.loads((undisturbed / "summary.json").read_text())
    assert time.monotonic() - began < 2
    assert (undisturbed / "checkpoint" / "config.json").stat().st_mtime_ns == stamp


def test_another_configuration_is_refused(undisturbed: Path) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT, ["seed=3"])
    with pytest.raises(ConfigError, match=r"another configuration \(differs in seed\)"):
        tune(config, undisturbed)
