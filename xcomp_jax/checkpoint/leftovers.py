"""Locks draft folders while they are written, and removes those of killed processes."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def draft_path(target: Path, token: str) -> Path:
    """Returns the draft folder for `target`; `token` has 8 hexadecimal digits."""
    return target.with_name(f".{target.name}.partial-{token}")


@contextlib.contextmanager
def locked_draft(draft: Path) -> Iterator[None]:
    """Creates the folder `draft` with a lock file beside it; deletes both after the block.

    The system releases the lock when the process dies, which tells a leftover from a draft in use.
    """
    lock = _lock_path(draft)
    with lock.open("x", encoding="ascii") as file:
        try:
            with contextlib.suppress(OSError):  # Some file systems have no locks.
                fcntl.flock(file, fcntl.LOCK_EX)
                # Only a file with this id is trusted; another process may open it before the lock.
                file.write(_boot_id())
                file.flush()
            draft.mkdir()
            yield
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            lock.unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Removes drafts of `target` that killed processes left; warns of those of unknown state."""
    pattern = re.compile(re.escape(f".{target.name}.partial-") + "[0-9a-f]{8}")
    names = (entry.name for entry in os.scandir(target.parent))
    for draft in sorted({match[0] for name in names if (match := pattern.match(name))}):
        for path in _unremoved(target.with_name(draft), target):
            logger.warning(
                "%s: left by another run, perhaps on another machine; delete it if that run has "
                "ended",
                path,
            )


def _unremoved(draft: Path, target: Path) -> list[Path]:
    """Removes a draft if its process is dead for certain; returns paths of unknown state."""
    folders = [path for path in (draft, old_path(draft)) if path.exists()]
    try:
        lock = _lock_path(draft).open("rb")
    except OSError:
        return folders
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []  # In use by a process of this machine.
        except OSError:
            return folders
        # Locks of other machines are not visible on every shared file system.
        if not _boot_id() or lock.read(100) != _boot_id().encode():
            return folders or [_lock_path(draft)]
        if old_path(draft).exists() and not target.exists():
            old_path(draft).rename(target)  # Killed between the two renames.
        for path in (draft, old_path(draft)):
            shutil.rmtree(path, ignore_errors=True)
        _lock_path(draft).unlink(missing_ok=True)
    return []


def old_path(draft: Path) -> Path:
    """Returns the name of the replaced folder between two renames."""
    return draft.with_name(draft.name + ".old")


def _lock_path(draft: Path) -> Path:
    return draft.with_name(draft.name + ".lock")


def _boot_id() -> str:
    """Returns an id of this start of this machine, or "" where the system has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
