"""Checksums of the files of saved arrays, which are compared at almost no cost.

Each chunk file ends with the CRC-32C of its content, which TensorStore verifies when it reads the
chunk. config.json lists these four bytes, and the sha256 of each array's zarr.json. A damaged file
fails the first check, an exchanged or missing one the second.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from xcomp_jax.checkpoint.tree import CheckpointError

DESCRIPTION = "zarr.json"
_CHECKSUM_BYTES = 4


def file_checksums(params: Path, arrays: Iterable[str]) -> dict[str, str]:
    """Returns the checksum of every file of `arrays`, by path relative to the folder `params`."""
    paths = [
        path for name in arrays for path in sorted((params / name).rglob("*")) if path.is_file()
    ]
    return {path.relative_to(params).as_posix(): _checksum(path) for path in paths}


def check_files(params: Path, listed: Mapping[str, str]) -> None:
    """Compares files with their listed checksums.

    Raises:
        CheckpointError: a file is missing or has changed; the message names it.
    """
    for name, expected in listed.items():
        try:
            changed = _checksum(params / name) != expected
        except OSError as error:
            raise CheckpointError(
                f"{params / name} cannot be read: {error.strerror}; copy or convert the checkpoint "
                "again"
            ) from error
        if changed:
            raise CheckpointError(
                f"{params / name} cannot be read: it was changed or exchanged after saving, its "
                "checksum is not the one in config.json; copy or convert the checkpoint again"
            )


def _checksum(path: Path) -> str:
    if path.name == DESCRIPTION:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _CHECKSUM_BYTES))
        return file.read().hex()
