"""Tests that `xcomp evaluate` gives the same rows in parts, after a kill and on several hosts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.cli.evaluate_runs import arguments, rows_in
from xcomp_jax.cli.main import main


def test_evaluate_four_shards_equal_one_process(
    root: Path, mvbench: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    for index in range(4):
        assert main(arguments(root, mvbench, out, "--shard", f"{index}/4")) == 0
    assert len(list((out / "mvbench").glob("rows*.jsonl"))) == 4
    assert rows_in(out) == whole


def test_evaluate_killed_resumes_on_two_shards(
    root: Path, mvbench: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "xcomp_jax.cli.main", *arguments(root, mvbench, out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    rows = out / "mvbench" / "rows-0-of-1.jsonl"
    while not (rows.exists() and rows.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with rows.open("a", encoding="utf-8") as file:
        file.write('{"key": "torn')
    for index in range(2):
        assert main(arguments(root, mvbench, out, "--shard", f"{index}/2")) == 0
    assert main(arguments(root, mvbench, out)) == 0
    assert rows_in(out) == whole


def test_evaluate_distributed_equals_one_process(
    root: Path, mvbench: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "distributed"
    job = {
        "SLURM_JOB_ID": str(random.SystemRandom().randrange(2**12)),  # determines the port
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
    }
    command = [sys.executable, "-m", "xcomp_jax.cli.main", *arguments(root, mvbench, out)]
    processes = [
        subprocess.Popen(
            [*command, "--distributed"],
            env={**os.environ, **job, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for task in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert len(list((out / "mvbench").glob("rows*.jsonl"))) == 2
    assert rows_in(out) == whole
