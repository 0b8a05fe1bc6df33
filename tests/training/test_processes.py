"""Several real processes as one run of `xcomp tune`."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training.processes import (
    EXPERIMENTS,
    Started,
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
from xcomp_jax.training.checkpoint import newest_params

EXPERIMENT = "tiny_one_stage.py"
EXIT_LOST, EXIT_CONTINUE = 74, 75


@pytest.mark.parametrize("coordinator", ["nonsense", "host:", "host:port"])
def test_a_coordinator_has_a_port(coordinator: str) -> None:
    with pytest.raises(ConfigError, match=f"coordinator='{coordinator}' must read HOST:PORT"):
        connect(coordinator, 2, 0)


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run_together(count: int, folder: Path, name: str, *arguments: str) -> Path:
    workdir = folder / name
    for one in start_together(count, EXPERIMENT, workdir, folder / "cache", *arguments):
        one.finished()
    return workdir


@pytest.fixture(scope="module", name="alone")
def alone_fixture(folder: Path) -> Path:
    start(EXPERIMENT, folder / "alone", folder / "cache").finished()
    return folder / "alone"


@pytest.fixture(scope="module", name="two")
def two_fixture(folder: Path) -> Path:
    return run_together(2, folder, "two", "--wandb", "toy")


def final(workdir: Path) -> Params:
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


def lose_one(running: list[Started], victim: int, workdir: Path) -> None:
    """SIGKILL to one of the processes once there is a checkpoint; the others must notice."""
    wait_until((workdir / "stages" / "sct" / "2").is_dir, *running)
    pid = running[victim].process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    for number, one in enumerate(running):
        if number != victim:
            assert one.ended(within=90) == EXIT_LOST, one.output()[-3000:]
            assert "another process of this run was lost, or never came" in one.output()
            assert "start all of them again with the same command" in one.output()
    assert time.monotonic() - began < 90
    assert not (workdir / "summary.json").exists()


def test_two_processes_learn_what_one_does(two: Path, alone: Path) -> None:
    assert_same_losses(two, alone)
    evaluation = "evaluation_after.json"
    assert (two / evaluation).read_text() == (alone / evaluation).read_text()


def test_one_of_two_tells_wandb(two: Path) -> None:
    (told,) = (two / "wandb").glob("offline-run-*/*.wandb")
    assert told.stem == f"run-{(two / 'wandb_id.txt').read_text()}"
    assert told.read_bytes().count(b"sct/loss") >= len(losses(two))


def test_what_two_saved_is_read_by_one(two: Path) -> None:
    config = load_experiment(EXPERIMENTS / EXPERIMENT)
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    stage, params = newest_params(config, two, mesh)
    assert stage.name == "sct"
    assert_equal(params, final(two))


def test_a_lost_process_ends_the_run_and_it_continues(two: Path, folder: Path) -> None:
    workdir = folder / "lost"
    running = start_together(2, EXPERIMENT, workdir, folder / "cache")
    lose_one(running, 1, workdir)
    for one in start_together(2, EXPERIMENT, workdir, folder / "cache"):
        one.finished()
    assert losses(workdir) == losses(two)
    assert_equal(final(workdir), final(two))


@pytest.mark.slow
def test_four_processes_are_lost_stopped_and_continued_by_one(folder: Path, alone: Path) -> None:
    four = run_together(4, folder, "four")
    assert_same_losses(four, alone)
    workdir = folder / "four-lost"
    running = start_together(4, EXPERIMENT, workdir, folder / "cache")
    lose_one(running, 0, workdir)  # the one that the others meet at
    by_one = folder / "by-one"
    shutil.copytree(workdir, by_one)
    for one in start_together(4, EXPERIMENT, workdir, folder / "cache"):
        one.finished()
    assert losses(workdir) == losses(four)
    assert_equal(final(workdir), final(four))
    start(EXPERIMENT, by_one, folder / "cache").finished()
    assert_same_losses(by_one, alone)


@pytest.mark.slow
def test_what_one_process_must_mend_ends_all(folder: Path) -> None:
    """And not with the code that tells Slurm to try again."""
    workdir = folder / "damaged"
    workdir.mkdir()
    (workdir / "metrics.jsonl").write_text("{}\n{\n")
    for one in start_together(2, EXPERIMENT, workdir, folder / "cache"):
        assert one.ended(within=120) == 2, one.output()[-3000:]
        assert "metrics.jsonl is damaged in line 2" in one.output()


@pytest.mark.slow
def test_two_processes_share_each_video(folder: Path, alone: Path) -> None:
    mesh = ("--set", "mesh.fsdp=1", "--set", "mesh.context=2")
    assert_same_losses(run_together(2, folder, "context", *mesh), alone)


@pytest.mark.slow
def test_a_signal_to_one_of_two_saves_on_both(folder: Path, two: Path) -> None:
    workdir = folder / "stopped"
    running = start_together(2, EXPERIMENT, workdir, folder / "cache")
    wait_until(lambda: (workdir / "stages" / "sct").is_dir(), *running)
    pid = running[1].process.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert [one.ended(within=90) for one in running] == [EXIT_CONTINUE] * 2
    assert "stopped by SIGTERM after step" in running[0].output()
    steps = {int(path.name) for path in (workdir / "stages" / "sct").iterdir()}
    assert 1 <= max(steps) < 8
    for one in start_together(2, EXPERIMENT, workdir, folder / "cache"):
        one.finished()
    assert_equal(final(workdir), final(two))
