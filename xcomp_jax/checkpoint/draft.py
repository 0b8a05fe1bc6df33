"""Creates a folder atomically: complete under its final name, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from xcomp_jax.checkpoint.leftovers import (
    draft_path,
    locked_draft,
    old_path,
    remove_leftovers,
)
from xcomp_jax.checkpoint.ownership import Writer, check_owned, write_marker
from xcomp_jax.checkpoint.tree import CheckpointError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def new_folder(
    target: str | os.PathLike[str],
    writer: Writer,
    *,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> Iterator[Path]:
    """Yields a draft folder beside `target`, renamed to `target` when the block succeeds.

    If the block raises, the draft is deleted. A killed process leaves a folder
    `.NAME.partial-...`, which the next call deletes or names in a warning. Every process of a run
    calls this.

    Args:
        target: folder to create; a symbolic link is followed.
        writer: command that creates the folder, recorded in it.
        overwrite: replaces a folder of the same writer.
        sources: folders that the block reads.

    Raises:
        CheckpointError: see `check_free`.
    """
    target = Path(os.path.realpath(target))
    check_free(target, writer, overwrite=overwrite, sources=sources)
    draft = draft_path(target, _shared_token())
    with contextlib.ExitStack() as stack:
        is_first = jax.process_index() == 0
        if is_first:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target)
            stack.enter_context(locked_draft(draft))
        _barrier("draft")
        yield draft
        _barrier("written")
        if is_first:
            write_marker(draft, writer)
            # Another process may have created the target in the meantime.
            check_free(target, writer, overwrite=overwrite)
            _give_name(draft, target)
        _barrier("named")


def check_free(
    target: Path, writer: Writer, *, overwrite: bool, sources: Iterable[Path] = ()
) -> None:
    """Checks that `new_folder` may create or overwrite `target`.

    Raises:
        CheckpointError: `target` equals, contains or lies inside one of `sources`; or it exists
            and, with `overwrite`, `writer` did not write all of it.
    """
    target = Path(os.path.realpath(target))
    for source in sources:
        _check_apart(target, Path(source))
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise CheckpointError(f"{target}: is a file; choose another name for the folder")
    if not overwrite:
        raise CheckpointError(f"{target}: exists already; {writer.advice}")
    check_owned(target, writer)


def _check_apart(target: Path, source: Path) -> None:
    # A folder may consist of links, as the hub cache does; their targets are read as well.
    linked = [entry for entry in source.iterdir() if entry.is_symlink()] if source.is_dir() else []
    for path in (source, *linked):
        real = Path(os.path.realpath(path))
        inside, contains = _lies_in(target, real), _lies_in(real, target)
        if inside or contains:
            relation = "is" if inside and contains else "lies inside" if inside else "contains"
            raise CheckpointError(
                f"{target}: {relation} the source {path}, which is never replaced or changed; "
                "choose another folder to write to"
            )


def _lies_in(path: Path, folder: Path) -> bool:
    """Tests whether `path` is `folder` or lies below it, by device and inode.

    Comparing names would miss bind mounts and file systems that ignore case.
    """
    if not folder.exists():
        return False
    return any(
        parent.exists() and os.path.samefile(parent, folder) for parent in (path, *path.parents)
    )


def _give_name(draft: Path, target: Path) -> None:
    """Renames `draft` to `target`; a folder at `target` is deleted afterwards."""
    if not target.exists():
        draft.rename(target)
        return
    _flush(draft)
    if _exchange(draft, target):
        return  # `locked_draft` deletes the old folder, which has the draft's name now.
    old = old_path(draft)
    try:
        target.rename(old)
        draft.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Writes all files to the disk, so that a power failure cannot lose both old and new."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _exchange(a: Path, b: Path) -> bool:
    """Swaps two folders atomically; returns False where system or file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = os.fsencode(a), os.fsencode(b)
    return libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _shared_token() -> str:
    """Draws a random name that is the same on every process."""
    token = np.uint32(secrets.randbits(32))
    if jax.process_count() > 1:
        token = multihost_utils.broadcast_one_to_all(token)
    return f"{int(token):08x}"


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoint {name}")
