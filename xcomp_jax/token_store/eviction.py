"""Deletes least recently used videos when the store is too large."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from xcomp_jax.token_store.locks import EXCLUSIVE, locked
from xcomp_jax.token_store.paths import (
    EVICTED,
    LOCK_FILE,
    last_use,
    partial_files,
    size_bytes,
    video_folders,
)


def evict(root: Path, allowed_bytes: float) -> tuple[list[str], int]:
    """Deletes least recently used videos until the store has at most `allowed_bytes`.

    Skips videos that are being read or written, so the store may stay larger. First deletes the
    leftovers of killed writers and evictions.

    Returns:
        The digests of the deleted videos, and the remaining bytes of the store.
    """
    for leftover in root.glob(f"{EVICTED}*"):
        shutil.rmtree(leftover, ignore_errors=True)  # Another process may be deleting it too.
    folders = sorted(video_folders(root), key=last_use)
    for folder in folders:
        _delete_partial_files(folder)
    remaining = size_bytes(root)
    evicted = []
    for folder in folders:
        if remaining <= allowed_bytes:
            break
        with locked(folder / LOCK_FILE, EXCLUSIVE, wait=False) as lock:
            if lock is None:
                continue
            # One rename removes all shards at once; processes waiting for the lock detect it.
            moved = folder.rename(root / f"{EVICTED}{uuid.uuid4().hex}")
        remaining -= size_bytes(moved)
        shutil.rmtree(moved, ignore_errors=True)
        evicted.append(folder.name)
    return evicted, remaining


def _delete_partial_files(folder: Path) -> None:
    """Deletes partial files, unless the video is in use and they may still be written."""
    if not partial_files(folder):
        return
    with locked(folder / LOCK_FILE, EXCLUSIVE, wait=False) as lock:
        if lock is not None:
            for file in partial_files(folder):
                file.unlink()
