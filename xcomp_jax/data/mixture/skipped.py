"""Logs samples that cannot be used and stops a run when there are too many."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.data.mixture.samples import BadSample, Sample

MIN_SAMPLES = 200
"""Minimum denominator of the bad share, so that one bad file early in a run does not stop it."""


class BadSamplesError(ValueError):
    """Raised when more samples are bad than the run allows; the message gives the last reason."""


class SkippedLog:
    """A JSON-lines file with one line per bad sample: `id`, `set`, `entry`, `path`, `reason`.

    Threads may share one log; every process needs its own. A sample is logged once, also when it is
    read again after a restart.

    Args:
        path: log file; None counts bad samples without logging them.
        max_share: largest allowed share of bad samples among those read through this object.
    """

    def __init__(self, path: Path | None, max_share: float) -> None:
        self._path, self._max_share = path, max_share
        self._lock = threading.Lock()
        self._num_read = 0
        self._num_bad = 0
        self._logged: set[tuple[int, str, str]] = set()
        if path is not None and path.exists():
            # Not splitlines, because ids and paths may hold other Unicode line ends.
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    row = json.loads(line)
                    self._logged.add((row["set"], row["id"], row["path"]))
                except (ValueError, KeyError, TypeError):  # a line cut off by a kill, or damaged
                    continue

    def count_good(self) -> None:
        """Counts a sample that was read."""
        with self._lock:
            self._num_read += 1

    def add_bad(self, sample: Sample, reason: str) -> None:
        """Counts and logs a sample that could not be read.

        Raises:
            BadSamplesError: the share of bad samples is too large.
        """
        with self._lock:
            self._num_read += 1
            self._num_bad += 1
            self._write(BadSample.of(sample, "bad file", reason))
            if self._num_bad > self._max_share * max(self._num_read, MIN_SAMPLES):
                raise BadSamplesError(self._message(self._num_bad, self._num_read, reason))

    def add_unusable(self, unusable: Sequence[BadSample], total: int) -> None:
        """Logs those of `total` samples that are known to be bad before reading starts.

        Raises:
            BadSamplesError: their share is too large.
        """
        with self._lock:
            for sample in unusable:
                self._write(sample)
        if len(unusable) > self._max_share * total:
            raise BadSamplesError(self._message(len(unusable), total, unusable[-1].message))

    def _message(self, bad: int, total: int, reason: str) -> str:
        log = "" if self._path is None else f" {self._path} lists them with reasons."
        return (
            f"{bad} of {total} samples cannot be used, more than data.mixture.max_bad="
            f"{self._max_share:g} allows. The last reason: {reason.rstrip('.')}.{log} Run "
            "`xcomp scan` to check all files and fix them, or raise max_bad."
        )

    def _write(self, sample: BadSample) -> None:
        name = (sample.set, sample.id, sample.path)
        if self._path is None or name in self._logged:
            return
        self._logged.add(name)
        row = {name: getattr(sample, name) for name in ("id", "set", "entry", "path")}
        row["reason"] = sample.message
        # A lone surrogate cannot be encoded; backslashreplace restores the JSON escape.
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
