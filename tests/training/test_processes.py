"""Tests `xcomp tune` in several processes: equal results, lost processes, signals."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training.tune_processes import (
    EXPERIMENTS,
    TuneProcess,
    free_port,
    losses,
    start,
    start_together,
    wait_until,
)
from xcomp_jax.checkpoint import load_params
from xcomp_jax.config import ConfigError
from xcomp_jax.experiment import load_experiment
from xcomp_jax.models.xcomp import Params
from xcomp_jax.processes import connect
from xcomp_jax.sharding import make_mesh
from xcomp_jax.training.newest_params import newest_params

EXPERIMENT = "tiny_one_stage.py"
EXIT_LOST, EXIT_CONTINUE = 74, 75


@pytest.mark.parametrize("coordinator", ["nonsense", "host:", "host:port"])
def test_connect_coordinator_without_port_raises(coordinator: str) -> None:
    with pytest.raises(ConfigError, match=f"coordinator='{coordinator}' must read HOST:PORT"):
        connect(coordinator, 2, 0)


def test_connect_incomplete_arguments_raises() -> None:
    with pytest.raises(ConfigError, match="num_processes=None and process_id=0 must be set tog"):
        connect("localhost:9911", None, 0)


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run_together(count: int, folder: Path, name: str, *arguments: str) -> Path:
    workdir = folder / name
    for process in start_together(count, EXPERIMENT, workdir, folder / "cache", *arguments):
        process.wait_for_success()
    return workdir


@pytest.fixture(scope="module", name="alone")
def alone_fixture(folder: Path) -> Path:
    start(EXPERIMENT, folder / "alone", folder / "cache").wait_for_success()
    return folder / "alone"


@pytest.fixture(scope="module", name="two")
def two_fixture(folder: Path) -> Path:
    return run_together(2, folder, "two", "--wandb", "toy")


def final_params(workdir: Path) -> Params:
    return load_params(workdir / "checkpoint")[1]


def assert_equal(actual: Params, expected: Params) -> None:
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_same_losses(workdir: Path, reference: Path) -> None:
    actual, expected = losses(workdir), losses(reference)
    assert [line[:2] for line in actual] == [line[:2] for line in expected]
    np.testing.assert_allclose(
        [line[2] for line in actual], [line[2] for line in expected], rtol=1e-5
    )
    assert abs(expected[0][2] - expected[-1][2]) > 1e-3, "control: the loss moves"


def kill_after_checkpoint(running: list[TuneProcess], victim: int, workdir: Path) -> None:
    """Kills one process after the first checkpoint; checks that the others exit by themselves."""
    wait_until((workdir / "stages" / "sct" / "2").is_dir, *running)
    running[victim].send(signal.SIGKILL)
    for number, process in enumerate(running):
        if number != victim:
            assert process.exit_code() == EXIT_LOST, process.output()[-3000:]
            assert "another process of this run was lost or did not join" in process.output()
            assert "start all processes again with the same command" in process.output()
    assert not (workdir / "summary.json").exists()


def test_two_processes_match_one(two: Path, alone: Path) -> None:
    assert_same_losses(two, alone)
    evaluation = "evaluation_after.json"
    assert (two / evaluation).read_text() == (alone / evaluation).read_text()


def test_two_processes_log_one_wandb_run(two: Path) -> None:
    (log,) = (two / "wandb").glob("offline-run-*/*.wandb")
    assert log.stem == f"run-{(two / 'wandb_id.txt').read_text()}"
    assert log.read_bytes().count(b"sct/loss") >= len(losses(two))


def test_two_processes_print_phases_once(two: Path, folder: Path) -> None:
    outputs = [log.read_text() for log in folder.glob("two-*.log")]
    assert sum("Stage 'sct' (1 of 1): training 8 steps" in output for output in outputs) == 1


def test_newest_params_of_two_processes_read_by_one(two: Path) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT)
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    stage, params = newest_params(config, two, mesh)
    assert stage.name == "sct"
    assert_equal(params, final_params(two))


def test_lost_process_ends_run_that_then_resumes(two: Path, folder: Path) -> None:
    workdir = folder / "lost"
    running = start_together(2, EXPERIMENT, workdir, folder / "cache")
    kill_after_checkpoint(running, 1, workdir)
    for process in start_together(2, EXPERIMENT, workdir, folder / "cache"):
        process.wait_for_success()
    assert losses(workdir) == losses(two)
    assert_equal(final_params(workdir), final_params(two))


def test_processes_with_different_settings_end_with_reason(folder: Path) -> None:
    workdir, port = folder / "different", free_port()
    meeting = ("--coordinator", f"localhost:{port}", "--num-processes", "2", "--process-id")
    running = [
        start(
            EXPERIMENT, workdir, folder / "cache", "--set", f"seed={number}", *meeting, f"{number}"
        )
        for number in range(2)
    ]
    for process in running:
        assert process.exit_code() == 2, process.output()[-3000:]
        assert (
            "process 0 and process 1 of this run differ in configuration field seed: 0 and 1"
            in (process.output())
        )
    assert not workdir.exists()


def test_processes_with_one_id_end_with_reason(folder: Path) -> None:
    meeting = ("--coordinator", f"localhost:{free_port()}", "--num-processes", "2")
    running = [
        start(EXPERIMENT, folder / "same", folder / "cache", *meeting, "--process-id", "0")
        for _ in range(2)
    ]
    for process in running:
        assert process.exit_code() == 2, process.output()[-3000:]
        assert "two processes have --process-id 0; give each its own" in process.output()


@pytest.mark.slow
def test_lost_coordinator_of_four_resumes_with_four_or_one(folder: Path, alone: Path) -> None:
    four = run_together(4, folder, "four")
    assert_same_losses(four, alone)
    workdir = folder / "four-lost"
    running = start_together(4, EXPERIMENT, workdir, folder / "cache")
    kill_after_checkpoint(running, 0, workdir)
    by_one = folder / "by-one"
    shutil.copytree(workdir, by_one)
    for process in start_together(4, EXPERIMENT, workdir, folder / "cache"):
        process.wait_for_success()
    assert losses(workdir) == losses(four)
    assert_equal(final_params(workdir), final_params(four))
    start(EXPERIMENT, by_one, folder / "cache").wait_for_success()
    assert_same_losses(by_one, alone)


@pytest.mark.slow
def test_error_on_first_process_ends_all_with_code_2(folder: Path) -> None:
    """Expects code 2, which unlike 75 does not make Slurm requeue the job."""
    workdir = folder / "damaged"
    workdir.mkdir()
    (workdir / "metrics.jsonl").write_text("{}\n{\n")
    for process in start_together(2, EXPERIMENT, workdir, folder / "cache"):
        assert process.exit_code() == 2, process.output()[-3000:]
        assert "metrics.jsonl is damaged in line 2" in process.output()


@pytest.mark.slow
def test_context_axis_over_two_processes_matches_one(folder: Path, alone: Path) -> None:
    mesh = ("--set", "mesh.fsdp=1", "--set", "mesh.context=2")
    assert_same_losses(run_together(2, folder, "context", *mesh), alone)


@pytest.mark.slow
def test_sigterm_to_one_of_two_saves_on_both(folder: Path, two: Path) -> None:
    workdir = folder / "stopped"
    running = start_together(2, EXPERIMENT, workdir, folder / "cache")
    wait_until(lambda: (workdir / "stages" / "sct").is_dir(), *running)
    running[1].send(signal.SIGTERM)
    assert [process.exit_code() for process in running] == [EXIT_CONTINUE] * 2
    assert "stopped by SIGTERM after step" in running[0].output()
    steps = {int(path.name) for path in (workdir / "stages" / "sct").iterdir()}
    assert 1 <= max(steps) < 8
    for process in start_together(2, EXPERIMENT, workdir, folder / "cache"):
        process.wait_for_success()
    assert_equal(final_params(workdir), final_params(two))
