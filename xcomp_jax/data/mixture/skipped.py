"""Samples that turned out bad: written down with the reason, and too many of them stop a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.data.mixture.samples import Sample

AT_LEAST = 200
"""Samples that a share is taken of, so that one bad file among the first ten stops nothing."""


class BadSamplesError(ValueError):
    """More samples are bad than the run allows: says how many, the last reason and the way out."""


class SkippedLog:
    """A JSON-lines file, one line for each bad sample: `id`, `set`, `path`, `reason`.

    Threads may share one; processes need a file each. A sample is written once, also when a run
    comes back to it after a restart.

    Args:
        path: None writes nothing, and only counts.
        max_share: of the samples looked at by this object; those before a restart do not count.
    """

    def __init__(self, path: Path | None, max_share: float) -> None:
        self._path, self._max_share = path, max_share
        self._lock = threading.Lock()
        self._seen = 0
        self._bad = 0
        self._written: set[tuple[int, str, str]] = set()
        if path is not None and path.exists():
            # Not splitlines: ids and paths may hold other line ends of Unicode.
            for line in path.read_text(encoding="utf-8").split("\n"):
                try:
                    row = json.loads(line)
                    self._written.add((row["set"], row["id"], row["path"]))
                except (ValueError, KeyError):  # the line a killed process was writing
                    continue

    def good(self) -> None:
        """Counts a sample that could be read."""
        with self._lock:
            self._seen += 1

    def bad(self, sample: Sample, reason: str) -> None:
        """Counts and writes down one that could not.

        Raises:
            BadSamplesError: it is one too many.
        """
        with self._lock:
            self._seen += 1
            self._bad += 1
            self._write(sample, reason)
            if self._bad > self._max_share * max(self._seen, AT_LEAST):
                raise BadSamplesError(self._message(self._bad, self._seen, reason))

    def leave_out(self, unusable: Sequence[tuple[Sample, str]], total: int) -> None:
        """Writes down those of `total` samples that are known to be bad before the first is read.

        Raises:
            BadSamplesError: their share is too large.
        """
        with self._lock:
            for sample, reason in unusable:
                self._write(sample, reason)
        if len(unusable) > self._max_share * total:
            raise BadSamplesError(self._message(len(unusable), total, unusable[-1][1]))

    def _message(self, bad: int, seen: int, reason: str) -> str:
        where = "" if self._path is None else f" {self._path} lists them with reasons."
        return (
            f"{bad} of {seen} samples cannot be used, the last one because: {reason.rstrip('.')}. "
            f"More than data.mixture.max_bad={self._max_share:g} stops a run.{where} "
            "`xcomp scan` checks all files beforehand; mend them, or raise max_bad"
        )

    def _write(self, sample: Sample, reason: str) -> None:
        name = (sample.set, sample.id, sample.media.path)
        if self._path is None or name in self._written:
            return
        self._written.add(name)
        row = {"id": sample.id, "set": sample.set, "path": sample.media.path, "reason": reason}
        # Half a surrogate pair is no UTF-8; with a backslash it is the JSON it was read from.
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
