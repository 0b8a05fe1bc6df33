"""metrics.jsonl: one line per optimiser step, consistent with the checkpoint a run resumes from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from xcomp_jax.files import write_text


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Complete lines in order; a last line cut by a kill is left out.

    Raises:
        ValueError: another line is damaged.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    try:
        return [json.loads(line) for line in complete.splitlines()]
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove the damaged line; it only serves reports"
        ) from error


class MetricsLog:
    """Appends to the file after forgetting what the resumed stage is about to do again."""

    def __init__(self, path: Path, *, stage: str, resume_step: int) -> None:
        kept = [
            line
            for line in read_metrics(path)
            if line["stage"] != stage or line["step"] <= resume_step
        ]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stage = stage
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Iterable[tuple[str, float]]) -> None:
        """Adds the line of optimiser step `step` (1-based)."""
        line = {"stage": self._stage, "step": step, **dict(values)}
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Makes the lines so far visible to readers."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()
