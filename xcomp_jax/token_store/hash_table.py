"""Caches content hashes of videos, so that an unchanged file is not read again."""

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
    """Maps a path to its hash while the files' `signature` is unchanged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hash_video(self, path: str | Path) -> str:
        """Returns `hashing.hash_video(path)`, from the table if the video is unchanged."""
        video = ffmpeg.local_path(path)
        entry = self._folder / f"{hashlib.sha256(os.fsencode(video)).hexdigest()}.json"
        before = signature(video)
        cached = _read(entry)
        if cached is not None and cached["files"] == before:
            return cached["sha256"]
        video_hash = hash_video(video)
        # If the file changed while it was hashed, the hash is not cached.
        if before is not None and signature(video) == before:
            self._write(entry, {"files": before, "sha256": video_hash})
        return video_hash

    def _write(self, entry: Path, value: dict[str, Any]) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
            # `write_text` uses a fixed name for its partial file, so writers take turns.
            with locked(self._folder / "lock", EXCLUSIVE):
                write_text(entry, seal(value))
        except OSError as error:  # Caching is optional; the hash itself is valid.
            logger.info("%s: hash not cached (%s)", entry, error)


def signature(video: Path) -> list[list[Any]] | None:
    """Returns [name, bytes, modification time, change time] of every file, times in nanoseconds.

    Programs that copy files set the modification time, but cannot set the change time. Returns None
    if a file cannot be read.
    """
    try:
        files = frame_files(video) if video.is_dir() else [video]
        stats = [(file.name, file.stat()) for file in files]
    except (OSError, ValueError):  # `hash_video` reports the cause.
        return None
    return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats]


def _read(entry: Path) -> dict[str, Any] | None:
    try:
        return unseal(entry.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s: corrupted cache entry; hashing the video again (%s)", entry, error)
        return None
