"""Locks between processes of one machine, on files that may be moved away with their folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX


@contextmanager
def locked(path: Path, kind: int, *, wait: bool = True) -> Iterator[int | None]:
    """Holds a lock for the block; the system frees it when the process dies.

    Yields the locked file's descriptor, or None without holding anything where its folder does not
    exist or, with `wait=False`, where another holder is in the way. A lock of the same process
    counts as another holder.
    """
    file = _take(path, kind, wait)
    try:
        yield file
    finally:
        if file is not None:
            # Closing alone would leave the lock to a child that was forked in the meantime.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def _take(path: Path, kind: int, wait: bool) -> int | None:
    while True:
        try:
            # Opened for reading only, so that a store may be read where it cannot be written.
            file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
            if _is_still(file, path):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_still(file: int, path: Path) -> bool:
    """False if the folder was evicted between opening and locking: such a lock guards nothing."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
