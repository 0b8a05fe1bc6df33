"""Tests tuning on a data mixture with `xcomp scan`, `xcomp encode` and `xcomp tune`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training.tiny_experiment import MODEL
from tests.training.tune_processes import losses
from xcomp_jax.checkpoint import save_params
from xcomp_jax.cli.main import main
from xcomp_jax.data.synthetic.generate import GeneratedSet, generate
from xcomp_jax.models.xcomp import init_params

CONFIG = str(Path(__file__).with_name("tiny_mixture.py"))
VIDEOS = 16
# Each device has one example at a time, whatever the number of devices.
SPREAD = {
    "mesh.fsdp": -1,
    "mesh.context": -1,
    "stages.0.batch_size": 6,
    "stages.0.accumulate_steps": -1,
    "stages.0.loss_average": "examples",
}
XCOMP = [sys.executable, "-m", "xcomp_jax.cli.main"]


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with base/, another/ (another encoder), mixture.yaml and scan.csv."""
    folder = tmp_path_factory.mktemp("mixture")
    for seed, name in enumerate(("base", "another")):
        params = init_params(MODEL, jax.random.key(seed))
        save_params(folder / name, MODEL, params, source={})
    videos = generated(folder)
    entry = {"json_path": str(videos.train_manifest), "data_root": str(videos.folder)}
    (folder / "mixture.yaml").write_text(json.dumps({"datasets": [entry]}))
    scan = ["scan", str(folder / "mixture.yaml"), "--config", CONFIG, "--quiet"]
    assert main([*scan, "--out", str(folder / "scan.csv")]) == 0
    return folder


def generated(folder: Path) -> GeneratedSet:
    return generate(
        folder / "videos",
        seed=0,
        num_train_videos=VIDEOS,
        num_eval_videos=4,
        kinds=("color", "direction"),
        progress=False,
    )


def tune(folder: Path, name: str, **values: object) -> list[str]:
    """Returns the arguments of `xcomp tune` in the workdir `name`."""
    sets = {
        "data.mixture.path": folder / "mixture.yaml",
        "data.mixture.table": folder / "scan.csv",
        "init_from": folder / "base",
        **values,
    }
    options = [option for item in sets.items() for option in ("--set", "{}={}".format(*item))]
    folders = ["--workdir", str(folder / name), "--cache-dir", str(folder / "cache"), "--quiet"]
    return ["tune", "--config", CONFIG, *folders, *options]


@pytest.fixture(scope="module", name="features")
def features_fixture(folder: Path) -> Path:
    """Returns a store of features, filled by two tasks of a simulated Slurm job."""
    command = ["encode", "--mixture", str(folder / "mixture.yaml"), "--config", CONFIG]
    command += ["--table", str(folder / "scan.csv"), "--store", str(folder / "features")]
    command += ["--checkpoint", str(folder / "base"), "--cache-dir", str(folder / "cache")]
    job = {
        "SLURM_JOB_ID": str(random.SystemRandom().randrange(2**12)),  # determines the port
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
    }
    tasks = [
        subprocess.Popen(
            [*XCOMP, *command, "--distributed"],
            env={**os.environ, **job, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for task in range(2)
    ]
    for task in tasks:
        out, err = task.communicate(timeout=300)
        assert task.returncode == 0, err[-3000:]
        assert f"{VIDEOS // 2} files encoded, 0 failed" in out
    return folder / "features"


def resolved(workdir: Path) -> tuple[dict[str, int], int]:
    """Returns mesh and accumulation steps from the metadata of a run's newest checkpoint."""
    steps = (workdir / "stages" / "sct").glob("*/meta/metadata")
    newest = max(steps, key=lambda path: int(path.parts[-3]))
    config = json.loads(newest.read_text())["config"]
    return config["mesh"], config["stages"][0]["accumulate_steps"]


@pytest.mark.slow
def test_tune_stored_features_on_mesh_matches_files(folder: Path, features: Path) -> None:
    """Compares decoding on one device, without held-out questions, to stored features on a mesh.

    The mesh has four devices, two per video, because four cannot share a batch of six.
    """
    assert main(tune(folder, "files", **SPREAD)) == 0
    summary = json.loads((folder / "files" / "summary.json").read_text())
    assert "accuracy_after" not in summary
    assert "nothing was evaluated" in (folder / "files" / "report.md").read_text()

    stored = tune(
        folder,
        "stored",
        **{
            "data.mixture.features": features,
            "data.held_out": generated(folder).eval_manifest,
            "evaluate_every_steps": 2,
            **SPREAD,
        },
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [*XCOMP, *stored],
        env={**os.environ, "XLA_FLAGS": flags.strip()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((folder / "stored" / "summary.json").read_text())["questions"] > 0
    assert len((folder / "stored" / "evaluations.jsonl").read_text().splitlines()) == 2
    assert list((folder / "stored" / "data" / "prepared").glob("eval-*"))
    assert resolved(folder / "files") == ({"data": 1, "fsdp": 1, "tensor": 1, "context": 1}, 6)
    assert resolved(folder / "stored") == ({"data": 1, "fsdp": 2, "tensor": 1, "context": 2}, 3)
    on_files, on_mesh = (
        np.array([line[2] for line in losses(folder / name)]) for name in ("files", "stored")
    )
    np.testing.assert_allclose(on_mesh, on_files, atol=1e-4)
    assert np.abs(np.diff(on_files)).min() > 5e-4, "control: no two batches have the same loss"


def test_tune_indivisible_parameters_exits_before_workdir(folder: Path) -> None:
    """Uses three devices, which do not divide the widths of the model."""
    done = subprocess.run(
        [*XCOMP, *tune(folder, "three", **SPREAD)],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "mesh axis fsdp=3 x context=1 does not divide its dimension of" in done.stderr
    assert not (folder / "three").exists()


def test_tune_features_of_other_encoder_exits_with_code_2(
    folder: Path, features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"data.mixture.features": features, "init_from": folder / "another"}
    assert main(tune(folder, "refused", **changes)) == 2
    assert "holds features of another encoder than the one in" in capsys.readouterr().err
    assert not (folder / "refused" / "metrics.jsonl").exists()
