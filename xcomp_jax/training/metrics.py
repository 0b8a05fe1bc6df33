"""Reads and writes metrics.jsonl: one line per optimizer step, consistent with checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from xcomp_jax.files import write_text


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the complete lines in order; a last line cut off by a kill is skipped.

    Raises:
        ValueError: another line is damaged.
    """
    if not path.exists():
        return []
    *complete, _ = path.read_bytes().split(b"\n")
    lines = []
    for number, line in enumerate(complete, start=1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:  # includes invalid UTF-8
            raise ValueError(
                f"{path} is damaged in line {number} ({error}); remove that line, which only "
                "reports use"
            ) from error
    return lines


class MetricsLog:
    """Appends metrics of one stage, after removing lines of steps that the resumed run repeats."""

    def __init__(self, path: Path, *, stage: str, resume_step: int) -> None:
        kept = [
            line
            for line in read_metrics(path)
            if line["stage"] != stage or line["step"] <= resume_step
        ]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stage = stage
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Iterable[tuple[str, float | str]]) -> None:
        """Appends the line of optimizer step `step` (1-based)."""
        line = {"stage": self._stage, "step": step, **dict(values)}
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Makes the lines so far visible to readers."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()
