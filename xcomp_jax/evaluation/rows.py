"""Stores one row per answered question as JSON lines: enough to score again without the model.

Each process appends to a file of its own in the run's folder. A row has a key, the hash of all that
the answer depends on, so that a changed checkpoint, video, prompt or protocol never meets an old
answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xcomp_jax.evaluation.errors import DataError

PATTERN = "rows*.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One answered question.

    Attributes:
        key: `row_key` of everything the answer depends on.
        frames: number of sampled frames; 0 if the video could not be read.
        selected_frames: indices into the sampled frames; None if all were kept.
        covered: whether sampled, selected and evenly spread frames lie in the annotated spans, by
            "sampled", "selected", "even"; empty without a span.
        answer: generated text.
        parsed, scores: letter or span, and score, by scoring mode.
        gold: right option's letter or annotated span.
        error: reason for which the question was not answered; empty if it was.
    """

    key: str
    benchmark: str
    id: str
    video: str
    prompt_hash: str
    frames: int
    answer: str
    gold: str
    selected_frames: tuple[int, ...] | None = None
    covered: dict[str, bool] = dataclasses.field(default_factory=dict)
    parsed: dict[str, str] = dataclasses.field(default_factory=dict)
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""


def row_key(
    *,
    benchmark: str,
    question_id: str,
    prompt_hash: str,
    video_hash: str,
    checkpoint_hash: str,
    protocol_hash: str,
) -> str:
    """Hashes contents, never names: a file that changed under its name gives another key."""
    parts = (benchmark, question_id, prompt_hash, video_hash, checkpoint_hash, protocol_hash)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def settings_hash(settings: dict[str, Any]) -> str:
    """Hashes nested settings, whatever the order of their names."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RowWriter:
    """Appends rows to a file; each is on disk before the call returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_line(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, row: Row) -> None:
        self._file.write(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_run(folder: Path) -> dict[str, Row]:
    """Reads the rows of all processes of a run, by key.

    A later row replaces an earlier one only if the earlier one holds an error. A last line that a
    kill has cut off is skipped.

    Raises:
        DataError: no rows, or a damaged line that is not the last.
    """
    files = sorted(folder.glob(PATTERN))
    if not files:
        raise DataError(f"{folder} holds no {PATTERN}; pass the --out folder of a run")
    rows: dict[str, Row] = {}
    for file in files:
        for row in read_rows_file(file):
            if row.key not in rows or rows[row.key].error:
                rows[row.key] = row
    return rows


def read_rows_file(path: Path) -> list[Row]:
    """Reads the rows of one file; see `read_run`."""
    # The last piece is empty, or the beginning of a row that was being written.
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parse(line, path, number) for number, line in enumerate(lines, start=1) if line]


def drop_torn_line(path: Path) -> None:
    """Cuts a file behind its last line break, so that an appended row starts a line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def _parse(line: bytes, path: Path, number: int) -> Row:
    try:
        values = json.loads(line)
        selected = values.get("selected_frames")
        return Row(**values | {"selected_frames": None if selected is None else tuple(selected)})
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} line {number} is no row of this version ({error}); remove the line, and its "
            "question is asked again"
        ) from error
