"""Writes to terminals, files and pipes: odd characters, closed pipes and full disks end cleanly."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from collections.abc import Iterator
from typing import IO

EXIT_CLOSED_PIPE = 141
"""128 + SIGPIPE, the code of a shell's own commands when their reader has gone."""

_REMEDIES = {
    errno.ENOSPC: "; free some space, or name a folder on another disk",
    errno.EDQUOT: "; free some space, or name a folder on another disk",
    errno.ENOENT: "; check the path",
    errno.EEXIST: "; name a folder",
    errno.EACCES: "; check the permissions of the file and its folder",
    errno.EROFS: "; name a folder on a disk that can be written",
    errno.ENAMETOOLONG: "; use a shorter name",
    errno.EISDIR: "; name a file",
    errno.ENOTDIR: "; check the path, a part of it is a file",
}


class ClosedOutputError(Exception):
    """Raised when the reader of stdout has gone, as in `xcomp ask ... | head -1`."""


def use_lossless_text() -> None:
    """Lets stdin, stdout and stderr pass any byte and any character.

    Characters that the locale cannot encode are printed as escapes; bytes that are not text in the
    locale arrive as lone surrogates, as in `sys.argv` (`check_text` refuses them).
    """
    # A stream that was closed (`>&-`) is None, which print() and tqdm do not take for silence.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=errors)


@contextlib.contextmanager
def written_output() -> Iterator[None]:
    """Writes the buffered output at the end of the block.

    Raises:
        ClosedOutputError: the reader of stdout has gone.
        OSError: the output cannot be written, for example because the disk is full.
    """
    try:
        yield
    except BrokenPipeError:
        if not _reader_has_gone(sys.stdout):
            raise
        _discard_output()
        raise ClosedOutputError from None
    finally:
        _flush_output()


def _flush_output() -> None:
    """Writes the buffered output; see `written_output`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise ClosedOutputError from None
    except OSError as error:
        _discard_output()
        raise OSError(error.errno, f"the output cannot be written ({error.strerror})") from None


def check_text(text: str, what: str) -> str:
    """Returns `text` if it is text.

    Raises:
        ValueError: it contains bytes that are not text in the encoding of the terminal.
    """
    position = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
    if position is not None:
        raise ValueError(
            f"{what} contains bytes that are not UTF-8, after {text[:position][-20:]!r}; write it "
            "in UTF-8"
        )
    return text


def _reader_has_gone(stream: IO[str]) -> bool:
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _discard_output() -> None:
    """Directs stdout to nowhere, because Python writes the buffered rest once more at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def describe(error: Exception) -> str:
    """Returns the message of an error; for an error of the system, the file, reason and remedy."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    file = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return f"{file}{error.strerror}{_REMEDIES.get(error.errno or 0, '')}"


def close_bars() -> None:
    """Closes every open progress bar, so that a message starts on a line of its own."""
    if "tqdm" in sys.modules:
        for bar in list(sys.modules["tqdm"].tqdm._instances):
            bar.close()
