"""Tests `xcomp tune` in one process: outputs, interruption, export, refusals."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.training.tune_processes import EXPERIMENTS, losses, metrics, start, wait_until
from xcomp_jax.checkpoint import CheckpointError, load_params
from xcomp_jax.config import ConfigError
from xcomp_jax.experiment import load_experiment
from xcomp_jax.training.export import export_newest
from xcomp_jax.training.tune import tune
from xcomp_jax.training.workdir import CONFIG_FILE, claim_workdir

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
    start(EXPERIMENT, workdir, folder / "cache").wait_for_success()
    return workdir


def test_tune_writes_all_outputs(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert {"accuracy_before", "accuracy_after", "chance", "seconds"} <= summary.keys()
    assert summary["tokens_per_frame_last_layer"] == 1
    assert summary["chance"] == 0.25
    assert len(losses(undisturbed)) == 10
    assert (undisturbed / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "| all |" in (undisturbed / "report.md").read_text()
    assert (undisturbed / "checkpoint" / "tokenizer_config.json").is_file()


def test_tune_prints_every_phase_in_order(undisturbed: Path) -> None:
    (log,) = undisturbed.parent.glob("undisturbed-*.log")
    lines = log.read_text().replace("\r", "\n").splitlines()
    phases = (
        f"Experiment 'tiny' in {undisturbed}, cpu mesh: data=1, fsdp=1, tensor=1, context=1",
        "Data: opening the generated training set",
        "Data: 32 training examples, 32 held-out questions",
        "Parameters: random, seed 0",
        "Stage 'base' (1 of 2): training 6 steps of 4 examples; the first step compiles",
        "Evaluation 'uncompressed': answering 32 held-out questions, compression schedule 'none'",
        "Evaluation 'before': answering 32 held-out questions, compression schedule 'cosine'",
        "Stage 'sct' (2 of 2): training 4 steps of 4 examples; the first step compiles",
        "Evaluation 'after': answering 32 held-out questions, compression schedule 'cosine'",
        f"Export: writing the parameters to {undisturbed / 'checkpoint'}",
        f"Report: writing {undisturbed / 'report.md'}",
    )
    assert [line for line in lines if line in phases] == list(phases)


def test_tune_metrics_of_every_step_are_consistent(undisturbed: Path) -> None:
    for line in metrics(undisturbed):
        assert line["frames_per_second"] * line["seconds"] == pytest.approx(4 * 8, rel=0.01)
        assert line["tokens_per_second"] * line["seconds"] == pytest.approx(
            line["tokens"], rel=0.01
        )
        assert line["tokens"] > 4 * 8 * 4, "includes text tokens"
        assert line["data_seconds"] >= 0
        assert 0.1 < line["host_gib"] < 10
        assert "mfu" not in line, "the peak of this CPU is unknown"
    # In sum only, because the wait for a batch overlaps with the step before it.
    waited, all_seconds = (
        sum(line[name] for line in metrics(undisturbed)) for name in ("data_seconds", "seconds")
    )
    assert waited < all_seconds


def test_exported_digests_match_parameters(undisturbed: Path) -> None:
    _, params = load_params(undisturbed / "checkpoint")
    scale = np.asarray(params["llm"]["norm"]["scale"])
    name = "llm/norm/scale"
    assert hashlib.sha256(scale.tobytes()).hexdigest() == digests(undisturbed)[name]
    other = np.nextafter(scale, 2, dtype=scale.dtype)
    assert hashlib.sha256(other.tobytes()).hexdigest() != digests(undisturbed)[name]


def test_tune_killed_at_any_phase_ends_the_same(undisturbed: Path, folder: Path) -> None:
    workdir, cache = folder / "stopped", folder / "cache"
    conditions = (
        lambda: len(list((workdir / "data" / "videos").glob("*.mp4"))) >= 3,
        (workdir / "stages" / "base" / "2").is_dir,
        (workdir / "evaluation_uncompressed.json").is_file,
        (workdir / "stages" / "sct" / "2").is_dir,
    )
    for reached in conditions:
        run = start(EXPERIMENT, workdir, cache)
        wait_until(reached, run)
        run.send(signal.SIGKILL)
        assert run.exit_code() == -signal.SIGKILL
        assert not (workdir / "summary.json").exists()
    start(EXPERIMENT, workdir, cache).wait_for_success()
    assert digests(workdir) == digests(undisturbed)
    assert losses(workdir) == losses(undisturbed)
    for name in ("uncompressed", "before", "after"):
        file = f"evaluation_{name}.json"
        assert (workdir / file).read_text() == (undisturbed / file).read_text()


def test_export_newest_during_a_save_matches_final(undisturbed: Path, tmp_path: Path) -> None:
    # The unfinished folder of a save in progress.
    half_saved = undisturbed / "stages" / "sct" / "99.orbax-checkpoint-tmp"
    half_saved.mkdir()
    assert export_newest(undisturbed, tmp_path / "exported").name == "sct"
    assert digests_in(tmp_path / "exported") == digests(undisturbed)
    half_saved.rmdir()
    with pytest.raises(ConfigError, match=r"holds no run: there is no config\.json"):
        export_newest(tmp_path, tmp_path / "again")


def test_tune_damaged_newest_checkpoint_ends_the_same(
    undisturbed: Path, folder: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed, workdir)
    stage = workdir / "stages" / "sct"
    for data in (stage / "4").rglob("d/*"):
        data.write_bytes(data.read_bytes()[:10])
    for name in ("summary.json", "evaluation_after.json"):
        (workdir / name).unlink()
    with pytest.raises(ConfigError, match=r"checkpoint .*/sct/4 is damaged"):
        export_newest(workdir, tmp_path / "exported")
    run = start(EXPERIMENT, workdir, folder / "cache", "--quiet")
    run.wait_for_success()
    (line,) = (line for line in run.output().splitlines() if "is damaged" in line)
    assert f"the checkpoint {stage / '4'} is damaged" in line
    assert (stage / "damaged-4").is_dir()
    assert digests(workdir) == digests(undisturbed)
    assert losses(workdir) == losses(undisturbed)
    assert export_newest(workdir, tmp_path / "exported").name == "sct"


def test_tune_missing_init_from_creates_no_workdir(tmp_path: Path) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT, ["init_from=/nowhere"])
    with pytest.raises(CheckpointError, match="/nowhere"):
        tune(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tune_finished_run_returns_stored_summary(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT)
    stamp = (undisturbed / "checkpoint" / "config.json").stat().st_mtime_ns
    monkeypatch.setattr("xcomp_jax.training.tune.make_mesh", None)  # any work would call it
    assert tune(config, undisturbed) == json.loads((undisturbed / "summary.json").read_text())
    assert capsys.readouterr().err == f"{undisturbed}: the run is finished, nothing to do\n"
    assert (undisturbed / "checkpoint" / "config.json").stat().st_mtime_ns == stamp


def test_workdir_without_training_takes_other_configuration(tmp_path: Path) -> None:
    first = load_experiment(EXPERIMENTS / EXPERIMENT)
    second = load_experiment(EXPERIMENTS / EXPERIMENT, ["seed=3"])
    for config in (first, second):
        with claim_workdir(tmp_path, config):
            assert json.loads((tmp_path / CONFIG_FILE).read_text())["seed"] == config.seed
    own = (tmp_path / CONFIG_FILE).read_text()
    (tmp_path / CONFIG_FILE).write_text('{"model_type": "other"}')
    with pytest.raises(ConfigError, match="another configuration"), claim_workdir(tmp_path, first):
        pass
    assert (tmp_path / CONFIG_FILE).read_text() == '{"model_type": "other"}'
    (tmp_path / CONFIG_FILE).write_text(own)
    (tmp_path / "metrics.jsonl").touch()
    with (
        pytest.raises(ConfigError, match="another configuration"),
        claim_workdir(tmp_path, first),
    ):
        pass


def test_tune_other_configuration_raises(undisturbed: Path) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT, ["seed=3"])
    with pytest.raises(ConfigError, match=r"another configuration \(seed: 3 instead of \d+\)"):
        tune(config, undisturbed)
