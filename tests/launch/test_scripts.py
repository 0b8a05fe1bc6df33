"""The launch scripts: that they are sound, and that several local processes find each other."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
import yaml

from xcomp_jax.config import on_devices
from xcomp_jax.experiment import load_experiment
from xcomp_jax.sharding import AXES
from xcomp_jax.training.step import check_micro_batches

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))

# In place of `xcomp`: meets the others as `xcomp tune` does, then waits to be told to stop.
PROCESS = f"""#!{sys.executable}
import signal, sys, time
import jax, numpy as np
from jax.experimental import multihost_utils
assert sys.argv[1] == "tune"
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
jax.distributed.initialize(
    given["--coordinator"], int(given["--num-processes"]), int(given["--process-id"])
)
met = multihost_utils.process_allgather(np.int32(jax.process_index()))
where = given["--workdir"] + "/" + str(jax.process_index())
if given["--then"] == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
with open(where, "w") as file:
    file.write(str(sorted(met.tolist())))
if given["--then"] == "wait":
    time.sleep(120)
sys.exit(3 if given["--then"] == "fail" and jax.process_index() else 0)
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_explain_themselves(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr or f"launch/{script.name} run" in done.stderr


def start(tmp_path: Path, then: str) -> subprocess.Popen[str]:
    """`launch/local.sh` with two of the processes above."""
    program = tmp_path / "xcomp"
    program.write_text(PROCESS)
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [LAUNCH / "local.sh", "2", "--workdir", str(tmp_path), "--then", then],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_local_processes_meet_and_a_failure_is_passed_on(tmp_path: Path) -> None:
    run = start(tmp_path, "fail")
    assert run.wait(timeout=120) == 3, run.stderr and run.stderr.read()[-2000:]
    assert [(tmp_path / name).read_text() for name in ("0", "1")] == ["[0, 1]", "[0, 1]"]


def test_a_signal_reaches_every_local_process(tmp_path: Path) -> None:
    run = start(tmp_path, "wait")
    deadline = time.monotonic() + 120
    while not all((tmp_path / name).exists() for name in ("0", "1")):
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=60) == 75


def test_the_jobset_fills_its_slice() -> None:
    jobset = yaml.safe_load((LAUNCH / "gke" / "tpu.yaml").read_text(encoding="utf-8"))
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(int(side) for side in topology.split("x"))
    hosts = chips // container["resources"]["limits"]["google.com/tpu"]
    assert job["completions"] == job["parallelism"] == hosts
    # Whatever ends, all hosts start again with the same command.
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] >= 1
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert container["command"] == ["xcomp", "tune", "--distributed"]


def test_the_recipe_of_the_readme_is_one_that_runs() -> None:
    """What the launch README hands to pods, and what the JobSet does, on that JobSet's chips."""
    written = re.search(r'RECIPE="(.*?)"', (LAUNCH / "README.md").read_text("utf-8"), re.DOTALL)
    assert written is not None
    recipe = shlex.split(written[1].replace("\\\n", " "))
    jobset = yaml.safe_load((LAUNCH / "gke" / "tpu.yaml").read_text(encoding="utf-8"))
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    given = [word for arg in container["args"] for word in arg.split("=", 1)]
    assert [word for word in given if word != "--quiet"] == recipe
    (shared,) = container["volumeMounts"]
    pairs = list(zip(recipe[::2], recipe[1::2], strict=True))
    inside = [word for word in recipe if word.rpartition("=")[2].startswith(shared["mountPath"])]
    assert len(inside) == len(pairs) - 1, "all but the configuration file are in the shared folder"
    sets = [value for name, value in pairs if name == "--set"]
    config = load_experiment(LAUNCH.parent / dict(pairs)["--config"], sets)
    chips = job["completions"] * container["resources"]["limits"]["google.com/tpu"]
    here = on_devices(config, chips)
    sizes = dataclasses.astuple(here.mesh)
    check_micro_batches(here.stages[0], jax.sharding.AbstractMesh(sizes, AXES))


def on_a_pod(
    folder: Path, gcloud: str, action: str, *more: str, script: Path = LAUNCH / "tpu_vm.sh"
) -> subprocess.CompletedProcess[str]:
    """`launch/tpu_vm.sh`, from beside it, with a program of one line in place of `gcloud`."""
    for name, line in (("gcloud", gcloud), ("sleep", "true")):
        program = folder / name
        program.write_text(f"#!/usr/bin/env bash\n{line}\n")
        program.chmod(0o755)
    return subprocess.run(
        [script, action, "pod", "zone", *more],
        cwd=script.parent,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    ("gcloud", "code"), [("echo NOT_FOUND >&2; exit 3", 3), ("echo FAILED", 1), ("echo ACTIVE", 0)]
)
def test_waiting_ends(gcloud: str, code: int, tmp_path: Path) -> None:
    # The first look always finds a pod in the making, the second what is to be tested.
    once = f"[[ -e {tmp_path}/seen ]] || {{ touch {tmp_path}/seen; echo CREATING; exit; }}"
    assert on_a_pod(tmp_path, f"{once}\n{gcloud}", "wait").returncode == code


def test_a_pod_gets_the_whole_repository(tmp_path: Path) -> None:
    script = tmp_path / "repository" / "launch" / "tpu_vm.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(LAUNCH / "tpu_vm.sh", script)
    (tmp_path / "repository" / "setup.py").touch()
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path / "repository", check=True)
    gcloud = f'[[ $4 != scp ]] || tar -tzf "$5" > {tmp_path}/told'
    assert on_a_pod(tmp_path, gcloud, "setup", script=script).returncode == 0
    assert (tmp_path / "told").read_text().split() == ["launch/", "launch/tpu_vm.sh", "setup.py"]


@pytest.mark.parametrize("action", ["logs", "stop"])
def test_a_pod_without_a_run_says_so(action: str, tmp_path: Path) -> None:
    done = on_a_pod(tmp_path, f'cd {tmp_path} && bash -c "${{@: -1}}"', action)
    assert (done.returncode, done.stderr) == (
        1,
        "nothing was started here yet: encode or run\n",
    )


@pytest.mark.parametrize(("action", "command"), [("encode", "encode"), ("run", "tune")])
def test_all_workers_of_a_pod_get_the_same_command(
    action: str, command: str, tmp_path: Path
) -> None:
    gcloud = f'printf "%s\\n" "$@" > {tmp_path}/told'
    done = on_a_pod(tmp_path, gcloud, action, "--mixture", "a b.yaml")
    assert done.returncode == 0
    told = (tmp_path / "told").read_text()
    assert f"nohup xcomp {command} --distributed --mixture a\\ b.yaml  > " in told
    assert "--worker=all" in told
