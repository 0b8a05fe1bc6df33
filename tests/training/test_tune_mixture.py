"""A mixture from its files to a tuned model, by the commands that the README names."""

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

from tests.training.processes import losses
from tests.training.tiny_experiment import MODEL
from xcomp_jax.checkpoint import save_params
from xcomp_jax.cli.main import main
from xcomp_jax.data.synthetic.generate import GeneratedSet, generate
from xcomp_jax.models.xcomp import init_params

CONFIG = str(Path(__file__).with_name("tiny_mixture.py"))
VIDEOS = 16
# One example at a time, on however many devices.
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
    """With base/, another/ (another encoder), mixture.yaml and what `xcomp scan` says of it."""
    folder = tmp_path_factory.mktemp("mixture")
    for seed, name in enumerate(("base", "another")):
        params = jax.jit(lambda key: init_params(MODEL, key))(jax.random.key(seed))
        save_params(folder / name, MODEL, params, source={})
    made = generated(folder)
    entry = {"json_path": str(made.train_manifest), "data_root": str(made.folder)}
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
    """Arguments of `xcomp tune` in the workdir `name`."""
    sets = {
        "data.mixture.path": folder / "mixture.yaml",
        "data.mixture.table": folder / "scan.csv",
        "init_from": folder / "base",
        **values,
    }
    options = [option for item in sets.items() for option in ("--set", "{}={}".format(*item))]
    where = ["--workdir", str(folder / name), "--cache-dir", str(folder / "cache"), "--quiet"]
    return ["tune", "--config", CONFIG, *where, *options]


@pytest.fixture(scope="module", name="features")
def features_fixture(folder: Path) -> Path:
    """The store of features, filled by two tasks of what looks like a Slurm cluster."""
    command = ["encode", "--mixture", str(folder / "mixture.yaml"), "--config", CONFIG]
    command += ["--table", str(folder / "scan.csv"), "--store", str(folder / "features")]
    command += ["--checkpoint", str(folder / "base"), "--cache-dir", str(folder / "cache")]
    job = {
        "SLURM_JOB_ID": str(random.SystemRandom().randrange(2**12)),  # makes the port
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
        assert f"{VIDEOS // 2} files encoded, 0 could not be" in out
    return folder / "features"


def used(workdir: Path) -> tuple[dict[str, int], int]:
    """Mesh and micro batches that a run's newest checkpoint says it was made with."""
    steps = (workdir / "stages" / "sct").glob("*/meta/metadata")
    newest = max(steps, key=lambda path: int(path.parts[-3]))
    config = json.loads(newest.read_text())["config"]
    return config["mesh"], config["stages"][0]["accumulate_steps"]


def test_features_on_a_mesh_teach_what_files_on_one_device_do(folder: Path, features: Path) -> None:
    """One run decodes and asks nothing held out; the other does neither of both, on four devices
    of which two share each video, since four cannot share six."""
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
    assert used(folder / "files") == ({"data": 1, "fsdp": 1, "tensor": 1, "context": 1}, 6)
    assert used(folder / "stored") == ({"data": 1, "fsdp": 2, "tensor": 1, "context": 2}, 3)
    on_files, on_mesh = (
        np.array([line[2] for line in losses(folder / name)]) for name in ("files", "stored")
    )
    np.testing.assert_allclose(on_mesh, on_files, atol=1e-4)
    assert np.abs(np.diff(on_files)).min() > 5e-4, "control: no two batches have the same loss"


def test_devices_that_cannot_share_the_parameters_are_refused_at_once(folder: Path) -> None:
    """Before the folder is anyone's: the widths of the model are no multiples of three."""
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


def test_features_of_another_encoder_are_refused(
    folder: Path, features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"data.mixture.features": features, "init_from": folder / "another"}
    assert main(tune(folder, "refused", **wrong)) == 2
    assert "holds features of another encoder than the one in" in capsys.readouterr().err
    assert not (folder / "refused" / "metrics.jsonl").exists()
