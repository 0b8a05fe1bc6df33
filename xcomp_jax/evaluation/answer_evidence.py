"""Keeps the evidence of wrong answers during a run, for the report's hardest questions.

Only times, scores and selected frames are stored; thumbnails are decoded for the few questions that
a report shows.
"""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.evidence import Evidence, from_json, to_json
from xcomp_jax.files import write_text
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.evidence import evidence_of

FOLDER = "evidence"

MAX_KEPT = 200
"""Wrong answers whose evidence is kept; one of 4,096 frames takes about 250 kB."""


class AnswerEvidence:
    """Writes the evidence of wrong answers into a run's folder, by the key of their rows."""

    def __init__(self, run: Path, model: str) -> None:
        self._folder, self._model = run / FOLDER, model
        self._count = len(list(self._folder.glob("*.json")))

    def keep(self, key: str, video: EncodedVideo, answer: Answer) -> None:
        """Writes one file, unless there are `MAX_KEPT`."""
        path = evidence_path(self._folder.parent, key)
        if self._count >= MAX_KEPT or path.exists():
            return
        self._folder.mkdir(exist_ok=True)
        evidence = evidence_of(video, answer, model=self._model, thumbnails=False)
        write_text(path, to_json(evidence))
        self._count += 1


def evidence_path(run: Path, key: str) -> Path:
    """Returns the file for the evidence of a row."""
    return run / FOLDER / f"{key}.json"


def read_evidence(run: Path, key: str) -> Evidence | None:
    """Reads the evidence of a row; None if it was not kept or cannot be read."""
    try:
        return from_json(evidence_path(run, key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
