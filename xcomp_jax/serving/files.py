"""Stores the files that clients upload, with a bound on their total size."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcomp_jax.files import read_json, write_json
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.ids import checked_id, random_id
from xcomp_jax.serving.settings import Limits

logger = logging.getLogger(__name__)

CONTENT, DESCRIPTION = "content", "file.json"


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """One uploaded file; `created_at` in seconds since 1970."""

    id: str
    filename: str
    bytes: int
    created_at: int
    purpose: str
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """Returns OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileStore:
    """Keeps each file in a folder of its own below `root`; thread-safe."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root, self.limits = root, limits
        self._lock = threading.Lock()
        self._reserved = 0
        self.partial_folder = root.parent / "partial"
        for folder in (root, self.partial_folder):
            folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.partial_folder.iterdir():  # of a killed server
            leftover.unlink()
        self._files = {file.id: file for file in self._stored()}

    def _stored(self) -> Iterator[StoredFile]:
        for folder in self.root.glob("file-*"):
            description = folder / DESCRIPTION
            if not description.is_file():  # of a killed server; its client has no id
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                yield StoredFile(**read_json(description), path=folder / CONTENT)
            except (ValueError, TypeError) as error:
                logger.warning("%s does not describe a file (%s)", description, error)

    @property
    def used_bytes(self) -> int:
        """Bytes of all files, and of the uploads in progress."""
        return self._reserved + sum(file.bytes for file in self._files.values())

    def reserve(self, num_bytes: int) -> None:
        """Counts bytes of an upload in progress.

        Raises:
            ApiError: the quota is exceeded.
        """
        with self._lock:
            if num_bytes > 0 and self.used_bytes + num_bytes > self.limits.quota_bytes:
                raise ApiError(
                    413,
                    f"the server keeps at most {_size(self.limits.quota_bytes)} of files and "
                    f"{_size(self.used_bytes)} are used; delete files that you do not need",
                    code="quota_exceeded",
                )
            self._reserved += num_bytes

    def new_partial(self) -> Path:
        """Returns the path of a file to write before `add`."""
        return self.partial_folder / random_id("partial")

    def add(self, partial: Path, filename: str, purpose: str) -> StoredFile:
        """Adds a complete file by moving it; its bytes must be reserved.

        Raises:
            OSError: the disk is full; the file is deleted.
        """
        file_id = random_id("file")
        folder, size = self.root / file_id, partial.stat().st_size
        fields: dict[str, Any] = {
            "id": file_id,
            "filename": shown_filename(filename),
            "bytes": size,
            "created_at": int(time.time()),
            "purpose": purpose[:64],
        }
        try:
            folder.mkdir()
            partial.replace(folder / CONTENT)
            write_json(folder / DESCRIPTION, fields)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            partial.unlink(missing_ok=True)
            self.reserve(-size)
            raise
        file = StoredFile(**fields, path=folder / CONTENT)
        with self._lock:
            self._reserved -= size
            self._files[file_id] = file
        return file

    def get(self, file_id: str) -> StoredFile:
        """Returns a file.

        Raises:
            ApiError: there is none.
        """
        file = self._files.get(checked_id("file", file_id))
        if file is None:
            raise ApiError(
                404, f"there is no file {file_id}; it may have been deleted", code="not_found"
            )
        return file

    def all(self) -> list[StoredFile]:
        """Returns all files, newest first."""
        return sorted(self._files.values(), key=lambda file: -file.created_at)

    def delete(self, file_id: str) -> None:
        """Deletes a file."""
        file = self.get(file_id)
        with self._lock:
            self._files.pop(file_id, None)
        shutil.rmtree(file.path.parent, ignore_errors=True)


def shown_filename(name: str) -> str:
    """Returns the last part of a client's file name without control characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    text = "".join(char for char in last if char.isprintable())
    return text.encode("utf-8", "replace").decode()[:200] or "upload"


def _size(num_bytes: int) -> str:
    if num_bytes < 1 << 20:
        return f"{num_bytes:,} bytes"
    return f"{num_bytes / (1 << 20):,.0f} MiB"
