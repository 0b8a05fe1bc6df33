"""Reads and writes one shard: clips of one video in an immutable ArrayRecord file.

Record 0 is a sealed JSON header (`ShardHeader`), record 1 + i the bytes of clip `starts[i]`.
ArrayRecord's own hashes detect damage to the file; the hashes in the header also detect a record
that belongs to another clip or another video.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from xcomp_jax.token_store.keys import DTYPES, StoreKey
from xcomp_jax.token_store.sealed import seal, unseal

SUFFIX = ".array_record"
PARTIAL_SUFFIX = ".partial"

# One record per group, so that a clip is read without its neighbours. Floats hardly compress.
WRITER_OPTIONS = "group_size:1,uncompressed"
READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class CorruptShardError(Exception):
    """Raised when the content of a shard differs from what was written."""


@dataclasses.dataclass(frozen=True)
class ShardHeader:
    """The header of a shard.

    Attributes:
        video: digest of the key.
        shape, dtype: shape and dtype of every clip.
        starts: starts of the clips, in the order of their records.
        sha256: hash of each clip's bytes.
        pixel_hashes: hash of each clip's pixels (`engine.cutting`); empty if they are not known.
    """

    video: str
    shape: tuple[int, ...]
    dtype: str
    starts: tuple[int, ...]
    sha256: tuple[str, ...]
    pixel_hashes: tuple[str, ...] = ()


def write_shard(
    folder: Path,
    key: StoreKey,
    clips: Mapping[int, np.ndarray],
    pixel_hashes: Mapping[int, str],
) -> None:
    """Writes `clips` (start -> [tokens_per_clip, width] in the key's dtype) as a shard of `folder`.

    Args:
        pixel_hashes: hash of the pixels of every clip, or of none.

    Raises:
        OSError: the shard cannot be written; its partial file is deleted.
    """
    header = ShardHeader(
        video=key.digest,
        shape=key.clip_shape,
        dtype=key.dtype,
        starts=tuple(clips),
        sha256=tuple(_checksum(clip.tobytes()) for clip in clips.values()),
        pixel_hashes=tuple(pixel_hashes[start] for start in clips) if pixel_hashes else (),
    )
    name = f"{uuid.uuid4().hex}{SUFFIX}"
    partial = folder / f".{name}{PARTIAL_SUFFIX}"
    try:
        _write_records(partial, header, clips.values())
        _sync(partial)
        os.replace(partial, folder / name)
        _sync(folder)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write_records(path: Path, header: ShardHeader, clips: Iterable[np.ndarray]) -> None:
    try:
        writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)
        try:
            writer.write(seal(dataclasses.asdict(header)).encode())
            for clip in clips:
                writer.write(clip.tobytes())
        finally:
            writer.close()
    except RuntimeError as error:  # ArrayRecord's error for a full disk.
        raise OSError(str(error)) from error


def read_header(path: Path, video: str) -> ShardHeader:
    """Reads the header of a shard of the video with digest `video`.

    Raises:
        CorruptShardError: the header is damaged or belongs to another video.
        OSError: the file cannot be opened.
    """
    with _opened(path) as reader:
        try:
            header = _parse_header(_record(reader, 0))
        except ValueError as error:
            raise CorruptShardError(f"header: {error}") from error
        if header.video != video:
            raise CorruptShardError(f"header: belongs to video {header.video}")
        if reader.num_records() != 1 + len(header.starts):
            raise CorruptShardError(
                f"{reader.num_records()} records instead of a header and {len(header.starts)} clips"
            )
    return header


def read_clips(
    path: Path, header: ShardHeader, starts: Iterable[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (start, read-only clip) for `starts`, a subset of the header's; reads them one by one.

    Raises:
        CorruptShardError: a clip is damaged.
        OSError: the file cannot be opened.
    """
    positions = {start: position for position, start in enumerate(header.starts)}
    with _opened(path) as reader:
        for start in starts:
            position = positions[start]
            data = _record(reader, 1 + position)
            if not clip_matches(data, header.sha256[position]):
                raise CorruptShardError(f"clip {start} does not match the checksum in the header")
            yield start, np.frombuffer(data, DTYPES[header.dtype]).reshape(header.shape)


def clip_matches(data: bytes, sha256: str) -> bool:
    """Returns True if `sha256` is the checksum of a clip's bytes."""
    return _checksum(data) == sha256


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _parse_header(data: bytes) -> ShardHeader:
    # The seal guarantees the fields of `write_shard`; only tuples have become lists.
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in unseal(data.decode()).items()
    }
    return ShardHeader(**fields)


@contextmanager
def _opened(path: Path) -> Iterator[ArrayRecordReader]:
    # ArrayRecord raises the same error for an unreadable and a corrupted file; this raises OSError.
    path.open("rb").close()
    try:
        reader = ArrayRecordReader(str(path), READER_OPTIONS)
        try:
            yield reader
        finally:
            reader.close()  # Raises again if a read failed.
    except (RuntimeError, IndexError) as error:  # IndexError: fewer records than in the header.
        raise CorruptShardError(str(error)) from error


def _record(reader: ArrayRecordReader, position: int) -> bytes:
    return reader.read([position])[0]


def _sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
