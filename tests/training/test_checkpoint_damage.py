"""Tests damaged training checkpoints: an older state bit for bit, or an error of a paragraph."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.mutations import is_one_paragraph, mutate
from tests.training.tiny_experiment import BASE, EXPERIMENT
from xcomp_jax.config import ConfigError
from xcomp_jax.models.xcomp import init_params
from xcomp_jax.sharding import make_mesh
from xcomp_jax.training import checkpoint
from xcomp_jax.training.checkpoint import StageCheckpoints
from xcomp_jax.training.newest_params import newest_params
from xcomp_jax.training.step import TrainState, init_state

CONFIG = dataclasses.replace(EXPERIMENT, stages=(BASE,))
STEPS = (2, 4)
DEFAULT_CASES, ALL_CASES = 20, 2000


def state_of(step: int) -> TrainState:
    return init_state(BASE, init_params(CONFIG.model, jax.random.key(step)))


def same_bits(actual: TrainState, expected: TrainState) -> bool:
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


@pytest.fixture(scope="module", name="states")
def states_fixture() -> dict[int, TrainState]:
    return {step: state_of(step) for step in STEPS}


@pytest.fixture(scope="module", name="saved")
def saved_fixture(tmp_path_factory: pytest.TempPathFactory, states: dict[int, TrainState]) -> Path:
    """Returns a workdir with the checkpoints of two steps."""
    workdir = tmp_path_factory.mktemp("saved")
    with StageCheckpoints(workdir / "stages" / BASE.name, CONFIG, BASE) as checkpoints:
        for step in STEPS:
            checkpoints.save(step, states[step])
    return workdir


@pytest.fixture(name="workdir")
def workdir_fixture(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def stage_folder(workdir: Path) -> Path:
    return workdir / "stages" / BASE.name


def resume(workdir: Path) -> tuple[int, TrainState | None, list[str]]:
    """Returns step and state that a run resumes from, and the printed lines."""
    lines: list[str] = []
    with StageCheckpoints(stage_folder(workdir), CONFIG, BASE) as checkpoints:
        step = checkpoints.newest_intact_step(lines.append)
        state = checkpoints.restore(step, make_mesh(CONFIG.mesh)).state if step else None
    return step, state, lines


def arrays_of(folder: Path) -> Path:
    """Returns the largest file of a checkpoint."""
    return max((path for path in folder.rglob("d/*")), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_resume_flipped_bit_continues_from_older_step(
    workdir: Path, states: dict[int, TrainState]
) -> None:
    damaged = stage_folder(workdir) / "4"
    flip(arrays_of(damaged))
    with pytest.raises(ConfigError, match=r"checkpoint .*/base/4 is damaged.* remove that folder"):
        newest_params(CONFIG, workdir, make_mesh(CONFIG.mesh))
    step, state, lines = resume(workdir)
    assert step == 2
    assert same_bits(state, states[2])
    assert not same_bits(state, states[4])
    (line,) = lines
    assert f"{damaged} is damaged: the content of state/" in line
    assert "is now damaged-4 and can be deleted" in line
    with StageCheckpoints(stage_folder(workdir), CONFIG, BASE) as checkpoints:
        checkpoints.save(4, states[4])
    step, state, lines = resume(workdir)
    assert (step, lines) == (4, [])
    assert same_bits(state, states[4])
    assert (stage_folder(workdir) / "damaged-4").is_dir()


def test_resume_without_verification_returns_other_values(
    workdir: Path, states: dict[int, TrainState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: Orbax alone reads the flipped bit without an error."""
    flip(arrays_of(stage_folder(workdir) / "4"))
    monkeypatch.setattr(checkpoint, "checkpoint_damage", lambda folder: None)
    step, state, _ = resume(workdir)
    assert step == 4
    assert not same_bits(state, states[4])


def test_resume_all_checkpoints_damaged_raises_and_keeps_them(workdir: Path) -> None:
    for step in STEPS:
        arrays_of(stage_folder(workdir) / str(step)).unlink()
    with pytest.raises(ConfigError, match=r"base/2 is damaged: .* is missing.* remove that") as e:
        resume(workdir)
    assert is_one_paragraph(str(e.value))
    assert sorted(path.name for path in stage_folder(workdir).iterdir()) == ["2", "damaged-4"]


def test_resume_checkpoint_without_checksums_warns_once(
    workdir: Path, states: dict[int, TrainState]
) -> None:
    for step in STEPS:
        shutil.rmtree(stage_folder(workdir) / str(step) / "checksums")
    step, state, (line,) = resume(workdir)
    assert step == 4
    assert same_bits(state, states[4])
    assert "base/4: an earlier version wrote this checkpoint; it is not verified" in line


@pytest.mark.parametrize("damage", ["delete", "truncate", "empty"])
def test_restore_damage_without_checksums_is_one_paragraph(workdir: Path, damage: str) -> None:
    folder = stage_folder(workdir) / "4"
    shutil.rmtree(folder / "checksums")
    for path in folder.rglob("ocdbt.process_0/d/*"):
        if damage == "delete":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "truncate" else b"")
    with pytest.raises(ConfigError, match=r"base/4 is damaged or belongs to another run") as error:
        resume(workdir)
    assert is_one_paragraph(str(error.value))


@pytest.mark.parametrize("count", [DEFAULT_CASES, pytest.param(ALL_CASES, marks=pytest.mark.slow)])
def test_resume_any_mutation_gives_saved_state_or_error(
    saved: Path, states: dict[int, TrainState], tmp_path: Path, count: int
) -> None:
    results: dict[object, int] = {}
    for seed in range(count):
        workdir = tmp_path / str(seed)
        shutil.copytree(saved, workdir)
        mutation = mutate(stage_folder(workdir), random.Random(seed))
        result, lines = outcome(workdir, states)
        assert result in (*STEPS, "error"), (seed, mutation, result)
        assert all(map(is_one_paragraph, lines)), (seed, mutation, lines)
        results[result] = results.get(result, 0) + 1
        shutil.rmtree(workdir)
    print(f"{count} mutations: {results}")
    assert results.keys() >= {2, 4}


def outcome(workdir: Path, states: dict[int, TrainState]) -> tuple[object, list[str]]:
    """Returns the step whose state a resume restores, or "error"; and the messages."""
    try:
        step, state, lines = resume(workdir)
    except ConfigError as error:
        return "error", [str(error)]
    return (step if step and same_bits(state, states[step]) else f"wrong state at {step}"), lines
