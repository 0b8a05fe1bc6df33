"""Test the cluster scripts: syntax, commands, and processes that connect on one machine."""

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

REPO = Path(__file__).parents[2]
CLUSTERS = REPO / "launch" / "clusters"
SCRIPTS = sorted(CLUSTERS.glob("*.sh"))

# Replaces `xcomp`: connects to the others as `xcomp tune` does, then waits, fails or exits.
PROCESS = f"""#!{sys.executable}
import signal, sys, time
import jax, numpy as np
from jax.experimental import multihost_utils
assert sys.argv[1] == "tune"
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
jax.distributed.initialize(
    options["--coordinator"], int(options["--num-processes"]), int(options["--process-id"])
)
indices = multihost_utils.process_allgather(np.int32(jax.process_index()))
path = options["--workdir"] + "/" + str(jax.process_index())
if options["--then"] == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
with open(path, "w") as file:
    file.write(str(sorted(indices.tolist())))
if options["--then"] == "wait":
    time.sleep(120)
sys.exit(3 if options["--then"] == "fail" and jax.process_index() else 0)
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_without_arguments_prints_usage(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    process = subprocess.run([script], capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert f"launch/clusters/{script.name} " in process.stderr


def start(tmp_path: Path, then: str) -> subprocess.Popen[str]:
    """Starts `local.sh` with two of the processes above."""
    program = tmp_path / "xcomp"
    program.write_text(PROCESS)
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [CLUSTERS / "local.sh", "2", "--workdir", str(tmp_path), "--then", then],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_local_processes_connect_and_pass_a_failure_on(tmp_path: Path) -> None:
    with start(tmp_path, "fail") as run:
        _, errors = run.communicate(timeout=120)
    assert run.returncode == 3, errors[-2000:]
    assert [(tmp_path / name).read_text() for name in ("0", "1")] == ["[0, 1]", "[0, 1]"]


def test_signal_reaches_every_local_process(tmp_path: Path) -> None:
    with start(tmp_path, "wait") as run:
        deadline = time.monotonic() + 120
        while not all((tmp_path / name).exists() for name in ("0", "1")):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 75, errors[-2000:]


def test_jobset_fills_its_slice() -> None:
    jobset = yaml.safe_load((CLUSTERS / "gke" / "tpu.yaml").read_text(encoding="utf-8"))
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(int(side) for side in topology.split("x"))
    hosts = chips // container["resources"]["limits"]["google.com/tpu"]
    assert job["completions"] == job["parallelism"] == hosts
    # After any failure all hosts restart with the same command.
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] >= 1
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert container["command"] == ["xcomp", "tune", "--distributed"]


def test_readme_recipe_fits_the_jobset() -> None:
    """The recipe of the README equals that of the JobSet, and its mesh fits the JobSet's chips."""
    match = re.search(r'RECIPE="(.*?)"', (CLUSTERS / "README.md").read_text("utf-8"), re.DOTALL)
    assert match is not None
    recipe = shlex.split(match[1].replace("\\\n", " "))
    jobset = yaml.safe_load((CLUSTERS / "gke" / "tpu.yaml").read_text(encoding="utf-8"))
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    words = [word for argument in container["args"] for word in argument.split("=", 1)]
    assert [word for word in words if word != "--quiet"] == recipe
    (shared,) = container["volumeMounts"]
    pairs = list(zip(recipe[::2], recipe[1::2], strict=True))
    mount = shared["mountPath"]
    in_mount = [word for word in recipe if word.rpartition("=")[2].startswith(mount)]
    assert len(in_mount) == len(pairs) - 1, "all but the configuration are in the shared folder"
    sets = [value for name, value in pairs if name == "--set"]
    config = load_experiment(REPO / dict(pairs)["--config"], sets)
    chips = job["completions"] * container["resources"]["limits"]["google.com/tpu"]
    adapted = on_devices(config, chips)
    sizes = dataclasses.astuple(adapted.mesh)
    check_micro_batches(adapted.stages[0], jax.sharding.AbstractMesh(sizes, AXES))


def run_on_pod(
    folder: Path, gcloud: str, action: str, *more: str, script: Path = CLUSTERS / "tpu_vm.sh"
) -> subprocess.CompletedProcess[str]:
    """Runs `tpu_vm.sh` from its folder, with a program of one line in place of `gcloud`."""
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
def test_wait_ends_with_the_state_of_the_pod(gcloud: str, code: int, tmp_path: Path) -> None:
    # The first query always finds the pod in creation, the second one the tested state.
    creating = f"[[ -e {tmp_path}/seen ]] || {{ touch {tmp_path}/seen; echo CREATING; exit; }}"
    assert run_on_pod(tmp_path, f"{creating}\n{gcloud}", "wait").returncode == code


def test_setup_copies_the_whole_repository(tmp_path: Path) -> None:
    script = tmp_path / "repository" / "launch" / "clusters" / "tpu_vm.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(CLUSTERS / "tpu_vm.sh", script)
    (tmp_path / "repository" / "setup.py").touch()
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path / "repository", check=True)
    gcloud = f'[[ $4 != scp ]] || tar -tzf "$5" > {tmp_path}/files'
    assert run_on_pod(tmp_path, gcloud, "setup", script=script).returncode == 0
    files = (tmp_path / "files").read_text().split()
    assert [name for name in files if name[-1] != "/"] == ["launch/clusters/tpu_vm.sh", "setup.py"]


@pytest.mark.parametrize("action", ["logs", "stop"])
def test_pod_without_a_run_is_reported(action: str, tmp_path: Path) -> None:
    process = run_on_pod(tmp_path, f'cd {tmp_path} && bash -c "${{@: -1}}"', action)
    message = "no run on this pod yet; start one with encode or run\n"
    assert (process.returncode, process.stderr) == (1, message)


@pytest.mark.parametrize(("action", "command"), [("encode", "encode"), ("run", "tune")])
def test_all_workers_of_a_pod_run_one_command(action: str, command: str, tmp_path: Path) -> None:
    gcloud = f'printf "%s\\n" "$@" > {tmp_path}/words'
    process = run_on_pod(tmp_path, gcloud, action, "--mixture", "a b.yaml")
    assert process.returncode == 0
    words = (tmp_path / "words").read_text()
    assert f"nohup xcomp {command} --distributed --mixture a\\ b.yaml  > " in words
    assert "--worker=all" in words
