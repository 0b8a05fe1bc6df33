"""Where things lie in a store. Other processes may take any of them away at any moment."""

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
"""In a store of what a training run needs whole (`data.features`)."""


def video_folders(root: Path) -> list[Path]:
    """One folder for each video, named by its key's digest."""
    return _children(root / VIDEOS)


def shard_files(folder: Path) -> list[Path]:
    """Complete shards of a video; other files are none of the store's business."""
    return [path for path in _children(folder) if path.suffix == SUFFIX and path.name[0] != "."]


def partial_files(folder: Path) -> list[Path]:
    """Files of a video that are being written, or whose writer was killed."""
    return [path for path in _children(folder) if path.suffix == PARTIAL_SUFFIX]


def read_key(folder: Path) -> StoreKey | None:
    """The key of the video in `folder`; None if its file is missing or is not that key."""
    try:
        key = StoreKey.from_json((folder / KEY_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return key if key.digest == folder.name else None


def last_use(folder: Path) -> float:
    """When the video was last read or written, in seconds since 1970; 0 if it never was."""
    try:
        return (folder / LOCK_FILE).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def size_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
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
