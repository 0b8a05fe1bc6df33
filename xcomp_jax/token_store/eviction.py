"""Which videos go when the store is too large."""

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
    """Removes least recently used videos until the store has at most `allowed_bytes`.

    A video that is being read or written is passed over, so the store may stay larger. What killed
    writers and evictions left is removed first.

    Returns (digests of the videos removed, bytes that the store has now).
    """
    for leftover in root.glob(f"{EVICTED}*"):
        shutil.rmtree(leftover, ignore_errors=True)  # another process may be at it
    folders = sorted(video_folders(root), key=last_use)
    for folder in folders:
        _sweep(folder)
    left = size_bytes(root)
    removed = []
    for folder in folders:
        if left <= allowed_bytes:
            break
        with locked(folder / LOCK_FILE, EXCLUSIVE, wait=False) as lock:
            if lock is None:
                continue
            # The rename takes all shards away at once; whoever waits for the lock notices.
            doomed = folder.rename(root / f"{EVICTED}{uuid.uuid4().hex}")
        left -= size_bytes(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        removed.append(folder.name)
    return removed, left


def _sweep(folder: Path) -> None:
    """Removes partial files, unless someone uses the video and may be writing them."""
    if not partial_files(folder):
        return
    with locked(folder / LOCK_FILE, EXCLUSIVE, wait=False) as lock:
        if lock is not None:
            for file in partial_files(folder):
                file.unlink()
