"""Tests the study of interruptions: a small part of it, and that it notices broken results."""

from __future__ import annotations

import dataclasses
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xcomp_jax.launch.studies.interruptions import trial as trial_module
from xcomp_jax.launch.studies.interruptions.command import main
from xcomp_jax.launch.studies.interruptions.processes import CommandProcess, files_of
from xcomp_jax.launch.studies.interruptions.report import Study, markdown
from xcomp_jax.launch.studies.interruptions.trial import Interruption, Runner
from xcomp_jax.launch.studies.interruptions.workloads import Inputs, Workload

GOOD = """
import signal, sys, time
from pathlib import Path
from xcomp_jax.interruption import run_command
signal.signal(signal.SIGINT, signal.default_int_handler)
def run():
    folder = Path(sys.argv[1])
    for number in range(5):
        if not (folder / f"part{number}").exists():
            time.sleep(0.1)
            partial = folder / "tmp" / "new"
            try:
                partial.write_text(str(number))
                partial.rename(folder / f"part{number}")
            finally:
                partial.unlink(missing_ok=True)
    return 0
sys.exit(run_command("xcomp good", run))
"""

FORGETFUL = GOOD.replace(
    "    for number", "    [part.unlink() for part in folder.glob('part*')]\n    for number"
)
DIFFERING = GOOD.replace("str(number))", "str(time.time()))")
UNCAUGHT = GOOD.replace('run_command("xcomp good", run)', "run()")


def study_of(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Interrupts a program that writes five parts: three kills and three SIGINTs."""

    def start(arguments: list[str], folder: Path, cache: Path) -> CommandProcess:
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        before = files_of(folder)
        with (folder / "stdout").open("w") as output, (folder / "stderr").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                stdout=output,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        return CommandProcess(process, folder, before)

    monkeypatch.setattr(CommandProcess, "start", start)

    def parts(folder: Path) -> list[Path]:
        return sorted(folder.glob("part*"))

    workload = Workload(
        "good",
        lambda inputs, folder: [str(folder)],
        lambda folder: {"parts": [path.read_text() for path in parts(folder)]},
        lambda folder: len(parts(folder)),
        lambda folder: len(parts(folder)) == 5,
    )
    runner = Runner(workload, Inputs(folder), folder)
    reference = runner.reference(folder / "reference")
    signals = [signal.SIGKILL, signal.SIGINT] * 3
    return Study(seed=0).extended(
        *runner.trial(folder / "trial", signals, reference, random.Random(0))
    )


def test_study_of_robust_command_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(GOOD, tmp_path, monkeypatch)
    assert study.problems == []
    assert len(study.interruptions) == 6
    assert study.completions[-1].signals > 0
    assert "| good | SIGINT | 3 |" in markdown(study)
    assert "all results have the bits of an undisturbed run" in markdown(study)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        (FORGETFUL, "finished work was lost"),
        (DIFFERING, "other parts"),
        (UNCAUGHT, "traceback: Traceback"),
    ],
)
def test_study_of_broken_command_names_problem(
    program: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "_wait_for_moment", _wait_for_second_part)
    problems = study_of(program, tmp_path, monkeypatch).problems
    assert any(problem in text for text in problems), problems


def _wait_for_second_part(process: CommandProcess, *_: object) -> None:
    while process.running and process.num_changes() < 2:
        time.sleep(0.01)


def test_study_report_lists_failed_checks() -> None:
    event = Interruption("ask", "SIGINT", "while working", ("exit code -11 after SIGINT",))
    study = dataclasses.replace(Study(seed=3), interruptions=(event,), seconds=60.0)
    text = markdown(study)
    assert "| ask | SIGINT | 1 | 0 | 1 | 0 | 1 |" in text
    assert "1 failed checks:\n\n- ask: exit code -11 after SIGINT" in text


@pytest.mark.slow
def test_study_of_commands_finds_nothing(tmp_path: Path) -> None:
    """Kills the real commands a few times; the study with its defaults takes 25 minutes."""
    arguments = ["--kills", "8", "--interrupts", "8", "--quiet", "--out", str(tmp_path)]
    assert main(arguments) == 0, (tmp_path / "report.md").read_text()
