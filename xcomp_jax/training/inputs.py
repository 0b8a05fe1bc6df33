"""Records the files that a run reads, and refuses to continue with changed ones.

    WORKDIR/data/inputs.jsonl    {"path": ..., "stamp": ..., "content": ...} per file or folder

A file with the recorded stamp (size and times) is trusted, so that a resumed run only needs the
metadata of its files. Otherwise a sample of its content is hashed: 100,000 videos take minutes at
the first start, and seconds afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from xcomp_jax.config import ConfigError
from xcomp_jax.files import write_text
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.folder import frame_files

RECORD_FILE = "inputs.jsonl"

BLOCK_BYTES = 64 << 10
NUM_BLOCKS = 8
"""Blocks of a file that are hashed, evenly spaced from its head to its tail."""

MAX_FOLDER_FILES = 64
"""Images of a folder that are hashed, evenly spaced."""

# Hashing waits for storage, not for a processor.
_THREADS = 32
_MAX_NAMES = 10


@dataclasses.dataclass(frozen=True)
class _Input:
    """A recorded file, or something without a file, whose stamp is empty."""

    stamp: str
    content: str


def check_inputs(
    record: Path, paths: Iterable[Path], *, contents: Mapping[str, str] | None = None
) -> None:
    """Compares files and folders with `record`, and adds those that are not in it.

    One process calls this. Missing files are left to the code that reads them.

    Args:
        record: file of the run, created if missing.
        contents: name -> hash of inputs that are no files.

    Raises:
        ConfigError: something has changed since the run started; the message names it.
        ValueError: `record` is damaged.
    """
    known = _read(record)
    with ThreadPoolExecutor(_THREADS) as pool:
        names = list(dict.fromkeys(map(str, paths)))
        found = pool.map(lambda name: _describe(Path(name), known.get(name)), names)
        current = {name: value for name, value in zip(names, found, strict=True) if value}
    current |= {name: _Input("", content) for name, content in (contents or {}).items()}
    changed = [
        name
        for name, value in current.items()
        if name in known and known[name].content != value.content
    ]
    if changed:
        listing = ", ".join(changed[:_MAX_NAMES]) + (", ..." if len(changed) > _MAX_NAMES else "")
        raise ConfigError(
            f"{len(changed)} of the {len(current)} inputs of this run have changed since it "
            f"started: {listing}. Restore them, or use another --workdir"
        )
    if any(known.get(name) != value for name, value in current.items()):
        _write(record, known | current)


def _describe(path: Path, known: _Input | None) -> _Input | None:
    """Returns stamp and content of a file or folder of images, None if it cannot be read."""
    try:
        files = frame_files(path) if path.is_dir() else [path]
        stamp = _stamp(files)
        if known is not None and known.stamp == stamp:
            return known
        return _Input(stamp, _content(files))
    except (OSError, ValueError, VideoError):
        return None


def _stamp(files: Iterable[Path]) -> str:
    """Hashes names, sizes and times; the time of change also reveals a copy with kept times."""
    stats = [(file.name, file.stat()) for file in files]
    listing = [[name, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for name, s in stats]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]


def _content(files: list[Path]) -> str:
    """Hashes names and sizes of all files, and blocks of up to MAX_FOLDER_FILES of them."""
    sha256 = hashlib.sha256(json.dumps([[f.name, f.stat().st_size] for f in files]).encode())
    for number in _spaced(len(files), MAX_FOLDER_FILES):
        with files[number].open("rb") as file:
            starts = files[number].stat().st_size - BLOCK_BYTES + 1
            for start in _spaced(max(1, starts), NUM_BLOCKS):
                file.seek(start)
                sha256.update(file.read(BLOCK_BYTES))
    return sha256.hexdigest()


def _spaced(total: int, count: int) -> list[int]:
    """Returns up to `count` distinct numbers from 0 to total - 1, evenly spaced with both ends."""
    return np.unique(np.linspace(0, total - 1, count).astype(int)).tolist()


def _read(record: Path) -> dict[str, _Input]:
    if not record.exists():
        return {}
    try:
        rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        return {row["path"]: _Input(row["stamp"], row["content"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{record} is damaged ({error}); delete it if the inputs of the run are unchanged"
        ) from error


def _write(record: Path, inputs: Mapping[str, _Input]) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"path": name, **vars(value)}) for name, value in inputs.items())
    write_text(record, "".join(f"{line}\n" for line in lines))
