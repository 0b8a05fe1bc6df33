"""Turns the errors of a full disk, which every library raises in its own way, into one message."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# TensorStore, ArrayRecord and ffmpeg raise their own errors, with the system's text.
_TEXTS = ("No space left on device", "Disk quota exceeded")


class FullDiskError(OSError):
    """Raised when a disk or a quota is full; the message names the folder and the remedy."""


@contextlib.contextmanager
def full_disk_as_error(folder: Path, *, remedy: str) -> Iterator[None]:
    """Converts errors of a full disk that are raised in the block into a FullDiskError.

    Args:
        folder: folder that the block writes to.
        remedy: what to do, after "free some space".
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, FullDiskError) or not is_full_disk_error(error):
            raise
        file = getattr(error, "filename", None)
        writing = f" (while writing {file})" if file else ""
        raise FullDiskError(
            f"the disk of {folder} is full{writing}; free some space there and {remedy}"
        ) from error


def is_full_disk_error(error: BaseException) -> bool:
    """Returns True if a full disk or an exhausted quota caused the error."""
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return True
    if any(text in str(error) for text in _TEXTS):
        return True
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_full_disk_error, error.exceptions))
    cause = error.__cause__ or error.__context__
    return cause is not None and is_full_disk_error(cause)
