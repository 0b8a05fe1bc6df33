"""Marks the folders that a command wrote, so that nothing else is ever replaced.

    FOLDER/.xcomp_jax.json    {"written_by": command, "files": {path: size or sha256}}

A command replaces a folder only if its own marker lists every file, unchanged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from xcomp_jax.checkpoint.lists import short_list
from xcomp_jax.checkpoint.tree import CheckpointError
from xcomp_jax.files import write_json

MARKER = ".xcomp_jax.json"

# Larger files hold parameters, which nobody edits; their size is enough.
_HASHED_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Writer:
    """A command or function that creates checkpoint folders.

    Attributes:
        name: as a user types it.
        option: what a user adds to replace an existing folder; None if there is no such option.
    """

    name: str
    option: str | None = None

    @property
    def advice(self) -> str:
        """What to do about an existing folder."""
        return "choose another name" + (f", or replace it with {self.option}" * bool(self.option))


FROM_TORCH = Writer("xcomp convert from-torch", "--force (in Python overwrite=True)")
TO_TORCH = Writer("xcomp convert to-torch", "--force (in Python overwrite=True)")
SAVE = Writer("save_pretrained", "overwrite=True")
TUNE = Writer("xcomp tune")


def write_marker(folder: Path, writer: Writer) -> None:
    """Records `writer` and every file of `folder`."""
    files = {name: _fingerprint(path) for name, path in _files(folder).items()}
    write_json(folder / MARKER, {"written_by": writer.name, "files": files})


def check_owned(folder: Path, writer: Writer) -> None:
    """Checks that `writer` wrote every file of `folder` and that none has changed since.

    Raises:
        CheckpointError: the message names the foreign files and what to do.
    """
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        name, listed = marker["written_by"], dict(marker["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(
            f"{folder}: not replaced, because no {MARKER} shows that `{writer.name}` wrote it "
            "(earlier versions wrote none); choose another name, or move or delete the folder"
        ) from None
    if name != writer.name:
        raise CheckpointError(
            f"{folder}: not replaced, because `{name}` wrote it and not `{writer.name}`; choose "
            "another name, or move or delete the folder"
        )
    files = _files(folder)
    foreign = [name for name, path in files.items() if listed.get(name) != _fingerprint(path)]
    if foreign:
        raise CheckpointError(
            f"{folder}: not replaced, because it holds files that were added or changed since "
            f"`{name}` wrote it: {short_list(foreign)}; move them away or choose another name"
        )


def _files(folder: Path) -> dict[str, Path]:
    """Maps relative path to path of all entries that are no folders, except the marker."""
    entries = sorted(folder.rglob("*"))
    paths = {path.relative_to(folder).as_posix(): path for path in entries if not _is_folder(path)}
    paths.pop(MARKER, None)
    return paths


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _fingerprint(path: Path) -> int | str:
    """Returns the size of a large file, the sha256 of a small one."""
    if path.is_symlink() or not path.is_file():
        return "not a file"
    size = path.stat().st_size
    return size if size > _HASHED_BYTES else hashlib.sha256(path.read_bytes()).hexdigest()
