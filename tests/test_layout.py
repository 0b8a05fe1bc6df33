"""Tests of resolving -1 in a mesh and in `accumulate_steps`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import pytest

from xcomp_jax.config import ConfigError, ExperimentConfig, MeshConfig, mesh_on, on_devices
from xcomp_jax.experiment import load_experiment
from xcomp_jax.sharding import AXES
from xcomp_jax.training.step import check_micro_batches, state_shardings

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="module", name="published")
def published_fixture() -> ExperimentConfig:
    return load_experiment(CONFIGS / "xcomp_2b.py", ())


@pytest.mark.parametrize("name", ["xcomp_2b", "xcomp_7b"])
@pytest.mark.parametrize(
    ("devices", "fsdp", "context", "steps"),
    [
        (1, 1, 1, 32),
        (8, 8, 1, 4),  # one machine of GPUs
        (16, 16, 1, 2),  # v5litepod-16
        (32, 32, 1, 1),  # four nodes of Slurm
        (64, 32, 2, 1),  # v5p-128, and the JobSet of launch/clusters/gke
        (256, 32, 8, 1),  # v6e-256
    ],
)
def test_on_devices_published_recipes_resolved(
    name: str, devices: int, fsdp: int, context: int, steps: int
) -> None:
    """Resolves the file without overrides on every pod in launch/clusters/README.md."""
    here = on_devices(load_experiment(CONFIGS / f"{name}.py", ()), devices)
    stage = here.stages[0]
    assert (here.mesh.fsdp, here.mesh.context, stage.accumulate_steps) == (fsdp, context, steps)
    mesh = jax.sharding.AbstractMesh(dataclasses.astuple(here.mesh), AXES)
    check_micro_batches(stage, mesh)
    state_shardings(here.stage_model(stage), stage, mesh)


def test_on_devices_explicit_sizes_kept(published: ExperimentConfig) -> None:
    mesh, stage = MeshConfig(fsdp=8, context=8), published.stages[0]
    named = dataclasses.replace(
        published, mesh=mesh, stages=(dataclasses.replace(stage, accumulate_steps=2),)
    )
    assert on_devices(named, 64) == named
    # Micro batches of 8: with more than 8 devices, several share a video.
    eights = dataclasses.replace(
        published, stages=(dataclasses.replace(stage, accumulate_steps=4),)
    )
    shared = on_devices(eights, 64).mesh
    assert (shared.fsdp, shared.context) == (8, 8)
    one_at_a_time = dataclasses.replace(published, mesh=mesh)
    assert on_devices(one_at_a_time, 64).stages[0].accumulate_steps == 4


def test_on_devices_two_stages_share_mesh(published: ExperimentConfig) -> None:
    second = dataclasses.replace(published.stages[0], name="second", batch_size=24)
    both = on_devices(dataclasses.replace(published, stages=(published.stages[0], second)), 16)
    assert (both.mesh.fsdp, both.mesh.context) == (8, 2)
    assert [stage.accumulate_steps for stage in both.stages] == [4, 3]


@pytest.mark.parametrize(
    ("mesh", "examples", "sizes"),
    [
        ({"fsdp": -1}, 4, (1, 16, 1, 1)),
        ({"fsdp": -1, "context": -1}, None, (1, 16, 1, 1)),
        ({"fsdp": -1, "context": -1}, 12, (1, 4, 1, 4)),
        ({"data": 2, "fsdp": -1, "context": -1}, 4, (2, 2, 1, 4)),
        ({"tensor": 2, "fsdp": -1, "context": -1}, 4, (1, 4, 2, 2)),
        ({"data": -1, "fsdp": 4}, 4, (4, 4, 1, 1)),
    ],
)
def test_mesh_on_sixteen_devices_resolved(
    mesh: dict[str, int], examples: int | None, sizes: tuple[int, ...]
) -> None:
    assert dataclasses.astuple(mesh_on(MeshConfig(**mesh), 16, examples=examples)) == sizes


def test_on_devices_invalid_mesh_refused(published: ExperimentConfig) -> None:
    for mesh in ({"data": -1}, {"tensor": -1}, {"data": -1, "fsdp": 1, "context": -1}):
        with pytest.raises(ConfigError, match="one may be -1, or fsdp and context both"):
            MeshConfig(**mesh)
    with pytest.raises(ConfigError, match=r"fsdp=-1, tensor=3, context=-1 does not fit 16 device"):
        mesh_on(MeshConfig(tensor=3, fsdp=-1, context=-1), 16)
    with pytest.raises(ConfigError, match=r"batch_size=32 cannot be shared by data x fsdp = 6;"):
        on_devices(dataclasses.replace(published, mesh=MeshConfig(fsdp=6)), 6)
    stage = published.stages[0]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"loss_average": "tokens"}, "with accumulate_steps=-1 the number of devices"),
        ({"accumulate_steps": 0}, "accumulate_steps=0 must divide batch_size=32, or be -1"),
        ({"accumulate_steps": -2}, "accumulate_steps=-2 must divide"),
    ]
    for change, message in wrong:
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(stage, **change)
    with pytest.raises(ConfigError, match=r"accumulate_steps=-1\) cannot be split .*on_devices"):
        check_micro_batches(stage, jax.sharding.AbstractMesh((1, 1, 1, 1), AXES))
