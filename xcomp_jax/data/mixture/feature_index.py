"""Index of stored features: maps sampled images and videos to entries of the token store.

Every process appends to its own `index-<process>.csv`. The index holds everything needed to find
features, so that the media files themselves may be absent during training.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import threading
from pathlib import Path

from xcomp_jax.data.mixture.media import Media
from xcomp_jax.video.sampling import FramePlan

COLUMNS = ("path", "kind", "start", "end", "bytes", "frames", "indices", "digest")

DIGEST_LENGTH = 64
CHECKSUM_LENGTH = 16
"""Digits of the last column, a hash of the others; rows of earlier versions have none."""


class FeatureIndex:
    """The index files below `root`. Threads may share one object.

    `size` in the methods is `Facts.bytes`, so that a replaced file is not found.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._digests: dict[tuple[str, ...], str] = {}
        for path in sorted(root.glob("index-*.csv")):
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                for row in csv.reader(file):
                    if _is_intact(row):
                        self._digests[tuple(row[: len(COLUMNS) - 1])] = row[len(COLUMNS) - 1]

    def find(self, media: Media, plan: FramePlan, size: int) -> str | None:
        """Returns the digest of the store entry with the frames of `plan`, or None."""
        return self._digests.get(_columns(media, plan, size))

    def add(self, media: Media, plan: FramePlan, size: int, digest: str, process: int) -> None:
        """Adds an entry to the index file of this process."""
        columns = _columns(media, plan, size)
        path = self._root / f"index-{process}.csv"
        with self._lock:
            self._digests[columns] = digest
            _remove_partial_row(path)
            with path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow([*columns, digest, _checksum([*columns, digest])])


def _is_intact(row: list[str]) -> bool:
    """Returns False for a row that was cut off by a kill or damaged on disk."""
    fields, checksum = row[: len(COLUMNS)], row[len(COLUMNS) :]
    if len(fields) < len(COLUMNS) or len(fields[-1]) != DIGEST_LENGTH:
        return False
    return not checksum or checksum == [_checksum(fields)]


def _checksum(fields: list[str]) -> str:
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:CHECKSUM_LENGTH]


def _columns(media: Media, plan: FramePlan, size: int) -> tuple[str, ...]:
    indices = hashlib.sha256(json.dumps(plan.indices).encode()).hexdigest()[:16]
    values = (*dataclasses.astuple(media), size, plan.num_frames, indices)
    return tuple("" if value is None else str(value) for value in values)


def _remove_partial_row(path: Path) -> None:
    """Removes the incomplete last row of a killed process, which would corrupt the next one."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        is_partial = file.read() != b"\n"
    if is_partial:
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
