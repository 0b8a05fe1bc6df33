"""`xcomp tune` in processes of its own, forked from one that has imported everything."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from xcomp_jax.cli.main import main

EXPERIMENTS = Path(__file__).parent

# Imported once: what takes longest here after tracing.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__, "xcomp_jax.training.tune"])


@dataclasses.dataclass(frozen=True)
class Started:
    """One process, and where its output goes."""

    process: BaseProcess
    log: Path

    def ended(self, *, within: float = 400) -> int:
        """The exit code; fails after `within` seconds."""
        self.process.join(within)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {within} s:\n{self.output()[-3000:]}")
        return self.process.exitcode

    def finished(self) -> None:
        """Waits for it to end well."""
        assert self.ended() == 0, self.output()[-3000:]

    def output(self) -> str:
        return self.log.read_text(errors="replace")


def start(experiment: str, workdir: Path, cache: Path, *arguments: str) -> Started:
    """`xcomp tune` of a file beside this one."""
    command = ["tune", "--config", str(EXPERIMENTS / experiment), "--workdir", str(workdir)]
    command += ["--cache-dir", str(cache), "--quiet", *arguments]
    log = workdir.with_name(f"{workdir.name}-{time.monotonic_ns()}.log")
    log.touch()
    # A daemon: it does not outlive a test that fails.
    process = FORKED.Process(target=_run, args=(command, log), daemon=True)
    process.start()
    return Started(process, log)


def start_together(
    count: int, experiment: str, workdir: Path, cache: Path, *arguments: str
) -> list[Started]:
    """`count` processes of one run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    where = ["--coordinator", f"localhost:{port}", "--num-processes", str(count)]
    return [
        start(experiment, workdir, cache, *arguments, *where, "--process-id", str(number))
        for number in range(count)
    ]


def wait_until(reached: Callable[[], bool], *running: Started) -> None:
    """Fails if a process ends before."""
    deadline = time.monotonic() + 400
    while not reached():
        for one in running:
            assert one.process.is_alive(), f"ended too early: {one.output()[-3000:]}"
        assert time.monotonic() < deadline, "never got there"
        time.sleep(0.02)


def _run(command: list[str], log: Path) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # Without LLVM's optimisations: next to nothing is computed.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    os.environ["WANDB_MODE"] = "offline"
    code = main(command)
    sys.stdout.flush()
    sys.exit(code)


def metrics(workdir: Path) -> list[dict]:
    """Lines of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir: Path) -> list[tuple[str, int, float]]:
    """Stage, step and loss of every step."""
    return [(line["stage"], line["step"], line["loss"]) for line in metrics(workdir)]
