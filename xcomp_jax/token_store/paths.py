"""Files and folders of a store. Other processes may delete any of them at any moment."""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.token_store.keys import StoreKey
from xcomp_jax.token_store.shards import PARTIAL_SUFFIX, SUFFIX

VIDEOS = "videos"
HASHES = "hashes"
EVICTED = "evicted-"
KEY_FILE = "key.json"
LOCK_FILE = "lock"
FEATURES_FILE = "features.json"
"""Marks a store of training features (`xcomp_jax.data.mixture.features`)."""


def video_folders(root: Path) -> list[Path]:
    """Lists the videos' folders, each named by the digest of its key."""
    return _children(root / VIDEOS)


def shard_files(folder: Path) -> list[Path]:
    """Lists the complete shards of a video; ignores unrelated files."""
    return [path for path in _children(folder) if path.suffix == SUFFIX and path.name[0] != "."]


def partial_files(folder: Path) -> list[Path]:
    """Lists files of a video that are being written or whose writer was killed."""
    return [path for path in _children(folder) if path.suffix == PARTIAL_SUFFIX]


def read_key(folder: Path) -> StoreKey | None:
    """Reads the key of the video in `folder`; None if the file is missing or does not match."""
    try:
        key = StoreKey.from_json((folder / KEY_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return key if key.digest == folder.name else None


def last_use(folder: Path) -> float:
    """Returns the time of the last read or write in seconds since 1970; 0 if there was none."""
    try:
        return (folder / LOCK_FILE).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def size_bytes(folder: Path) -> int:
    """Returns the bytes of all files in a folder and its subfolders."""
    return sum(_size(path) for path in folder.rglob("*"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
