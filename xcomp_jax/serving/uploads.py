"""Uploads in parts, which a client can resume: OpenAI's Uploads API."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.files import FileStore, StoredFile, shown_filename
from xcomp_jax.serving.ids import checked_id, random_id
from xcomp_jax.serving.multipart import Upload, too_large

EXPIRES_SECONDS = 3600
MAX_PENDING = 64


@dataclasses.dataclass
class PendingUpload:
    """An upload whose parts arrive; `parts` maps ids to files with reserved bytes."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    status: str = "pending"
    parts: dict[str, Upload] = dataclasses.field(default_factory=dict)
    file: StoredFile | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns OpenAI's upload object; `parts` tells a client where to resume."""
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.created_at + EXPIRES_SECONDS,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": self.status,
            "file": None if self.file is None else self.file.to_dict(),
            "parts": [{"id": name, "bytes": part.size} for name, part in self.parts.items()],
        }


class Uploads:
    """Holds the uploads in progress; thread-safe."""

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self._pending: dict[str, PendingUpload] = {}
        self._lock = threading.Lock()

    def create(self, filename: str, purpose: str, num_bytes: int) -> PendingUpload:
        """Begins an upload.

        Raises:
            ApiError: the file would be too large, or too many uploads are in progress.
        """
        if num_bytes > self._files.limits.max_upload_bytes:
            raise too_large(self._files.limits.max_upload_bytes)
        self._expire()
        with self._lock:
            in_progress = [u for u in self._pending.values() if u.status == "pending"]
            if len(in_progress) >= MAX_PENDING:
                raise ApiError(429, "too many uploads are in progress", retry_after=60)
            upload = PendingUpload(
                random_id("upload"), shown_filename(filename), purpose, num_bytes, int(time.time())
            )
            self._pending[upload.id] = upload
        return upload

    def get(self, upload_id: str) -> PendingUpload:
        """Returns an upload.

        Raises:
            ApiError: there is none.
        """
        upload = self._pending.get(checked_id("upload", upload_id))
        if upload is None:
            raise ApiError(404, f"there is no upload {upload_id}; it may have expired")
        return upload

    def add_part(self, upload_id: str, part: Upload) -> dict[str, Any]:
        """Adds a received part and returns OpenAI's part object."""
        upload = self.get(upload_id)
        part_id = random_id("part")
        with self._lock:
            present = sum(other.size for other in upload.parts.values())
            if upload.status != "pending" or present + part.size > upload.bytes:
                raise ApiError(
                    400,
                    f"the upload has {present:,} of {upload.bytes:,} bytes and is {upload.status}; "
                    f"a part of {part.size:,} does not fit",
                )
            upload.parts[part_id] = part
        return {
            "id": part_id,
            "object": "upload.part",
            "created_at": int(time.time()),
            "upload_id": upload_id,
        }

    def complete(self, upload_id: str, part_ids: Sequence[str]) -> PendingUpload:
        """Joins the parts in the order of `part_ids` into a file. Blocking.

        Raises:
            ApiError: a part is unknown, or the size differs from the stated one.
            OSError: the disk is full; the upload is cancelled.
        """
        upload = self.get(upload_id)
        with self._lock:
            if set(part_ids) != set(upload.parts) or len(part_ids) != len(upload.parts):
                raise ApiError(400, "part_ids must list every part of the upload once")
            size = sum(part.size for part in upload.parts.values())
            if upload.status != "pending" or size != upload.bytes or not part_ids:
                raise ApiError(
                    400, f"the parts have {size:,} bytes, the upload states {upload.bytes:,}"
                )
            upload.status = "completed"
            parts = [upload.parts.pop(part_id) for part_id in part_ids]
        try:
            self._join(parts)
            upload.file = self._files.add(parts[0].path, upload.filename, upload.purpose)
        except OSError:
            upload.status = "cancelled"
            raise
        return upload

    def _join(self, parts: Sequence[Upload]) -> None:
        """Appends all parts to the first one; deletes all of them if the disk is full."""
        first, *others = parts
        try:
            with first.path.open("ab") as target:
                for part in others:
                    with part.path.open("rb") as source:
                        shutil.copyfileobj(source, target, 1 << 20)
                    part.path.unlink()
        except OSError:
            for part in parts:
                _delete(self._files, part.path, part.size)
            raise

    def cancel(self, upload_id: str) -> PendingUpload:
        """Ends an upload and deletes its parts."""
        upload = self.get(upload_id)
        with self._lock:
            parts, upload.parts = upload.parts, {}
            upload.status = "cancelled"
            self._pending.pop(upload_id, None)
        for part in parts.values():
            _delete(self._files, part.path, part.size)
        return upload

    def _expire(self) -> None:
        limit = time.time() - EXPIRES_SECONDS
        for upload_id in [u.id for u in self._pending.values() if u.created_at < limit]:
            self.cancel(upload_id)


def _delete(files: FileStore, path: Path, size: int) -> None:
    path.unlink(missing_ok=True)
    files.reserve(-size)
