"""File locks between processes of one machine, on files whose folder may be moved away."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX


@contextmanager
def locked(path: Path, kind: int, *, wait: bool = True) -> Iterator[int | None]:
    """Holds a lock during the block; the system releases it when the process dies.

    Yields the file descriptor, or None without a lock if the folder does not exist or, with
    `wait=False`, if another holder prevents it. Locks of the same process count as other holders.
    """
    file = _acquire(path, kind, wait)
    try:
        yield file
    finally:
        if file is not None:
            # Without LOCK_UN, a child process forked in the meantime would keep the lock.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def _acquire(path: Path, kind: int, wait: bool) -> int | None:
    while True:
        try:
            # Read-only access is enough and allows locking in a read-only store.
            file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
            if _is_same_file(file, path):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_same_file(file: int, path: Path) -> bool:
    """Returns False if the folder was evicted between open and lock, which voids the lock."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
