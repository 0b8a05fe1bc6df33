"""Starts `xcomp tune` in separate processes, forked from a server that has imported everything."""

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
HANG_SECONDS = 400
"""A process that runs longer counts as hanging; no test needs half of it on an idle machine."""

# Imports take longest here after tracing, so they happen once, in the server.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__, "xcomp_jax.training.tune"])


@dataclasses.dataclass(frozen=True)
class TuneProcess:
    """A running `xcomp` and the file that receives its output."""

    process: BaseProcess
    log: Path

    def exit_code(self) -> int:
        """Waits for the end of the process; fails if it hangs."""
        self.process.join(HANG_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"hangs after {HANG_SECONDS} s:\n{self.output()[-3000:]}")
        return self.process.exitcode

    def wait_for_success(self) -> None:
        """Waits for the end of the process and checks that it succeeded."""
        assert self.exit_code() == 0, self.output()[-3000:]

    def send(self, number: int) -> None:
        """Sends a signal to the process."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def output(self) -> str:
        """Returns stdout and stderr so far."""
        return self.log.read_text(errors="replace")


def start(experiment: str, workdir: Path, cache: Path, *arguments: str) -> TuneProcess:
    """Starts `xcomp tune` of an experiment file in this folder."""
    command = ["tune", "--config", str(EXPERIMENTS / experiment), "--workdir", str(workdir)]
    command += ["--cache-dir", str(cache), *arguments]
    return start_command(command, workdir.with_name(f"{workdir.name}-{time.monotonic_ns()}.log"))


def start_command(command: list[str], log: Path) -> TuneProcess:
    """Starts `xcomp` with any arguments; its output goes to a file."""
    log.touch()
    # A daemon does not outlive a test that fails.
    process = FORKED.Process(target=_run, args=(command, log), daemon=True)
    process.start()
    return TuneProcess(process, log)


def start_together(
    count: int, experiment: str, workdir: Path, cache: Path, *arguments: str
) -> list[TuneProcess]:
    """Starts `count` processes of one run."""
    meeting = ["--coordinator", f"localhost:{free_port()}", "--num-processes", str(count)]
    return [
        start(experiment, workdir, cache, *arguments, *meeting, "--process-id", str(number))
        for number in range(count)
    ]


def free_port() -> int:
    """Returns a port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def wait_until(reached: Callable[[], bool], *running: TuneProcess) -> None:
    """Waits for a condition; fails if a process ends first."""
    deadline = time.monotonic() + HANG_SECONDS
    while not reached():
        for process in running:
            assert process.process.is_alive(), f"ended too early: {process.output()[-3000:]}"
        assert time.monotonic() < deadline, f"not reached within {HANG_SECONDS} s"
        time.sleep(0.02)


def _run(command: list[str], log: Path) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # Compiling takes longer than computing here, so LLVM's optimizations are off.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    os.environ["WANDB_MODE"] = "offline"
    code = main(command)
    sys.stdout.flush()
    sys.exit(code)


def metrics(workdir: Path) -> list[dict]:
    """Returns the lines of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir: Path) -> list[tuple[str, int, float]]:
    """Returns stage, step and loss of every step."""
    return [(line["stage"], line["step"], line["loss"]) for line in metrics(workdir)]
