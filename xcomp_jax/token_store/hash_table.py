"""Remembers content hashes of videos, so that asking again does not read gigabytes."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from xcomp_jax.files import write_text
from xcomp_jax.token_store.hashing import hash_video
from xcomp_jax.token_store.locks import EXCLUSIVE, locked
from xcomp_jax.token_store.sealed import seal, unseal
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.folder import frame_files

logger = logging.getLogger(__name__)


class HashTable:
    """Path -> hash, valid while names, sizes and modification times stay as they were."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hash_video(self, path: str | Path) -> str:
        """As `hashing.hash_video`, from the table where the video is unchanged."""
        place = ffmpeg.local_path(path)
        entry = self._folder / f"{hashlib.sha256(os.fsencode(place)).hexdigest()}.json"
        before = _signature(place)
        known = _read(entry)
        if known is not None and known["files"] == before:
            return known["sha256"]
        video_hash = hash_video(place)
        # A file that was being written while it was read has a hash of no moment.
        if before is not None and _signature(place) == before:
            self._remember(entry, {"files": before, "sha256": video_hash})
        return video_hash

    def _remember(self, entry: Path, value: dict[str, Any]) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
            # `write_text` gives its partial file a fixed name: one writer at a time.
            with locked(self._folder / "lock", EXCLUSIVE):
                write_text(entry, seal(value))
        except OSError as error:  # the hash is right all the same
            logger.info("%s: hash not remembered (%s)", entry, error)


def _signature(place: Path) -> list[list[Any]] | None:
    """[name, bytes, modification time in ns] of every file; None if the video is not readable."""
    try:
        files = frame_files(place) if place.is_dir() else [place]
        stats = [(file.name, file.stat()) for file in files]
    except (OSError, ValueError):  # `hash_video` says what is wrong
        return None
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _read(entry: Path) -> dict[str, Any] | None:
    try:
        return unseal(entry.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s: corrupted hash of a video, hashing again (%s)", entry, error)
        return None
