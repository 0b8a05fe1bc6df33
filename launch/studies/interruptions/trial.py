"""Interrupts one command several times, lets it finish and compares the result."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.launch.studies.interruptions.processes import (
    POLL_SECONDS,
    CommandProcess,
    leftovers,
)
from xcomp_jax.launch.studies.interruptions.workloads import Inputs, Workload

PROMPT_SECONDS = 15.0
"""Limit for the exit after SIGINT, two commands side by side on a busy machine."""

SETTLED_SECONDS = 0.05
"""Kills that follow a change of the output come within this time after it."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """An undisturbed run: its duration, changed files and results."""

    seconds: float
    num_changes: int
    results: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Interruption:
    """What one signal did.

    Attributes:
        where: `before output`, `while working` or `after output`.
        problems: departures from the rules, in words; empty if all is well.
    """

    command: str
    signal: str
    where: str
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Completion:
    """The end of an interrupted piece of work; `signals` came before."""

    command: str
    signals: int
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Runner:
    """Runs one command in folders of its own."""

    workload: Workload
    inputs: Inputs
    cache: Path

    def start(self, folder: Path) -> CommandProcess:
        arguments = self.workload.arguments(self.inputs, folder)
        return CommandProcess.start(arguments, folder, self.cache)

    def reference(self, folder: Path) -> Reference:
        """Runs the command undisturbed.

        Raises:
            ValueError: it fails.
        """
        began = time.monotonic()
        process = self.start(folder)
        if process.wait() != 0:
            raise ValueError(f"xcomp {self.workload.name} fails undisturbed:\n{process.errors()}")
        seconds = time.monotonic() - began
        return Reference(seconds, process.num_changes(), self.workload.results(folder))

    def trial(
        self, folder: Path, signals: Sequence[int], reference: Reference, draw: random.Random
    ) -> tuple[list[Interruption], list[Completion]]:
        """Sends each of `signals` at a random moment to the same work, then lets it finish.

        Work that finishes earlier is compared and started anew in an empty folder.
        """
        interruptions: list[Interruption] = []
        completions: list[Completion] = []
        received = 0
        for number in signals:
            while (interruption := self._interrupt(folder, number, reference, draw)) is None:
                completions.append(self._completion(folder, received, reference))
                received = 0
            interruptions.append(interruption)
            received += 1
            if self.workload.name == "convert" and self.workload.is_complete(folder):
                completions.append(self._compared(folder, received, reference))
                received = 0
        if received:
            completions.append(self._finished(folder, received, reference))
        shutil.rmtree(folder, ignore_errors=True)
        return interruptions, completions

    def _interrupt(
        self, folder: Path, number: int, reference: Reference, draw: random.Random
    ) -> Interruption | None:
        """Returns what the signal did; None if the command ended before it."""
        known, progress = set(leftovers(folder)), self.workload.progress(folder)
        was_complete = self.workload.is_complete(folder)
        process = self.start(folder)
        _wait_for_moment(process, number, reference, draw)
        if not process.running:
            return None
        changed = process.num_changes() > 0
        began = time.monotonic()
        process.process.send_signal(number)
        code = process.wait()
        if code == 0:  # the signal came too late
            return None
        seconds = time.monotonic() - began
        problems = _traceback_problem(process)
        problems += [f"{count} child processes remain"] if (count := process.orphans()) else []
        if self.workload.progress(folder) < progress:
            problems.append(f"finished work was lost ({progress} before)")
        if number == signal.SIGINT:
            problems += _interruption_problems(process, self.workload.name, code, seconds)
            problems += _leftover_problem(set(leftovers(folder)) - known)
        elif code != -number:
            problems.append(f"exit code {code}")
        complete = self.workload.is_complete(folder) and not was_complete
        where = "after output" if complete else "while working" if changed else "before output"
        return Interruption(self.workload.name, signal.Signals(number).name, where, tuple(problems))

    def _finished(self, folder: Path, received: int, reference: Reference) -> Completion:
        process = self.start(folder)
        process.wait()
        return self._completion(folder, received, reference)

    def _completion(self, folder: Path, received: int, reference: Reference) -> Completion:
        """Compares the result of work that ended by itself, then deletes it."""
        errors = (folder / "stderr").read_text(errors="replace")
        failed = [errors[-500:]] if "Traceback" in errors else []
        return self._compared(folder, received, reference, failed)

    def _compared(
        self, folder: Path, received: int, reference: Reference, problems: Sequence[str] = ()
    ) -> Completion:
        try:
            results = self.workload.results(folder)
            differing = [
                f"other {name}"
                for name in reference.results
                if results[name] != reference.results[name]
            ]
        except (OSError, ValueError, KeyError) as error:
            differing = [f"no result: {error} {(folder / 'stderr').read_text()[-500:]}"]
        remaining = _leftover_problem(
            {name for name in leftovers(folder) if not name.startswith("tmp/")}
        )
        shutil.rmtree(folder)
        return Completion(self.workload.name, received, (*problems, *differing, *remaining))


def _wait_for_moment(
    process: CommandProcess, number: int, reference: Reference, draw: random.Random
) -> None:
    """Waits for a moment drawn over the whole duration or, half of the times, after a change."""
    deadline = time.monotonic() + draw.uniform(0, reference.seconds)
    change, delay = draw.randint(1, max(1, reference.num_changes)), draw.uniform(0, SETTLED_SECONDS)
    by_change = draw.random() < 0.5
    if by_change:
        deadline = time.monotonic() + reference.seconds
    while process.running and time.monotonic() < deadline:
        if by_change and process.num_changes() >= change:
            time.sleep(delay)
            break
        time.sleep(POLL_SECONDS)
    # Python itself handles SIGINT, with a traceback, until the command takes over.
    while number == signal.SIGINT and process.running and not process.has_handlers():
        time.sleep(POLL_SECONDS)


def _traceback_problem(process: CommandProcess) -> list[str]:
    errors = process.errors()
    return [f"traceback: {errors[-1000:]}"] if "Traceback" in errors else []


def _leftover_problem(names: Collection[str]) -> list[str]:
    if not names:
        return []
    return [f"leaves {len(names)} files, such as {', '.join(sorted(names)[:2])}"]


def _interruption_problems(
    process: CommandProcess, name: str, code: int, seconds: float
) -> list[str]:
    lines = [line for line in process.errors().splitlines() if line.strip()]
    problems = []
    if code != 128 + signal.SIGINT:
        problems.append(f"exit code {code} after SIGINT: {' '.join(lines[-2:])}")
    elif not lines or lines[-1] != f"xcomp {name}: interrupted":
        problems.append(f"last line {lines[-1:]} after SIGINT")
    if seconds > PROMPT_SECONDS:
        problems.append(f"took {seconds:.0f} s to end after SIGINT")
    return problems
