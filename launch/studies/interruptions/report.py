"""Writes the results of the study as a Markdown table and as JSON."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.files import write_json, write_text
from xcomp_jax.launch.studies.interruptions.trial import Completion, Interruption

MOMENTS = ("before output", "while working", "after output")
MAX_LISTED = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """All interruptions so far, and the ends of the interrupted work.

    Attributes:
        seconds: wall time.
    """

    seed: int
    interruptions: tuple[Interruption, ...] = ()
    completions: tuple[Completion, ...] = ()
    seconds: float = 0.0
    _began: float = dataclasses.field(default_factory=time.monotonic, repr=False)

    def extended(
        self, interruptions: Sequence[Interruption], completions: Sequence[Completion]
    ) -> Study:
        """Returns the study with the results of one more trial."""
        return dataclasses.replace(
            self,
            interruptions=(*self.interruptions, *interruptions),
            completions=(*self.completions, *completions),
            seconds=time.monotonic() - self._began,
        )

    @property
    def problems(self) -> list[str]:
        """Every failed check in words, with its command."""
        events: list[Interruption | Completion] = [*self.interruptions, *self.completions]
        return [f"{event.command}: {text}" for event in events for text in event.problems]


def markdown(study: Study) -> str:
    """Returns the table, one row per command and signal, and the failed checks."""
    columns = ("command", "signal", "runs", *MOMENTS, "failed checks")
    lines = [_row(columns), _row(["---"] * len(columns))]
    events = study.interruptions
    kinds = sorted({(event.command, event.signal) for event in events})
    for command, signal in kinds:
        chosen = [event for event in events if (event.command, event.signal) == (command, signal)]
        moments = [sum(event.where == moment for event in chosen) for moment in MOMENTS]
        failed = sum(bool(event.problems) for event in chosen)
        lines.append(_row([command, signal, len(chosen), *moments, failed]))
    ends = ("command", "finished after interruptions", "interruptions", "other results or files")
    lines += ["", _row(ends), _row(["---"] * len(ends))]
    for command in sorted({end.command for end in study.completions}):
        finished = [end for end in study.completions if end.command == command]
        resumed = [end for end in finished if end.signals]
        total = sum(end.signals for end in resumed)
        failed = sum(bool(end.problems) for end in finished)
        lines.append(_row([command, len(resumed), total, failed]))
    lines += ["", f"Seed {study.seed}, {study.seconds:.0f} s. {_verdict(study.problems)}"]
    return "\n".join(lines)


def _verdict(problems: Sequence[str]) -> str:
    if not problems:
        return (
            "No finished work was lost, all results have the bits of an undisturbed run, and no "
            "traceback, partial file or child process remained."
        )
    listed = [f"- {' '.join(problem.split())}" for problem in problems[:MAX_LISTED]]
    return "\n".join([f"{len(problems)} failed checks:", "", *listed])


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def write_report(study: Study, folder: Path) -> None:
    """Writes report.md and results.json to `folder`."""
    write_text(folder / "report.md", markdown(study) + "\n")
    values = dataclasses.asdict(study)
    del values["_began"]
    write_json(folder / "results.json", values)
