"""Detects damaged files of a folder by their sizes and sha256 hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Checksums = Mapping[str, tuple[int, str]]
"""Size in bytes and hexadecimal sha256 of every file, by its path relative to the folder."""


def checksums_of(folder: Path, files: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """Hashes `files` below `folder` in parallel, in constant memory.

    Raises:
        OSError: a file cannot be read.
    """
    paths = sorted(files)
    # sha256 has instructions of its own in current processors, and hashing releases the GIL.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(pool.map(_sha256, paths))
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, sha256)
        for path, sha256 in zip(paths, hashes, strict=True)
    }


def damage_in(folder: Path, checksums: Checksums) -> str | None:
    """Describes the first file below `folder` that differs from `checksums`; None if all match."""
    for name, (size, _) in checksums.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    try:
        actual = checksums_of(folder, (folder / name for name in checksums))
    except OSError as error:
        return f"a file cannot be read ({error})"
    changed = [name for name in checksums if actual[name] != tuple(checksums[name])]
    return f"the content of {changed[0]} has changed" if changed else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
