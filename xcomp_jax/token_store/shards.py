"""One shard: some clips of one video in an ArrayRecord file that appears whole and never changes.

Record 0 is a sealed JSON header (see `ShardHeader`), record 1 + i the bytes of clip `starts[i]`.
ArrayRecord's own hashes guard the bytes of the file; the header's say that a record is the clip it
is taken for, of the video it is taken for.
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
    """A shard whose content is not what was written; the message says how it shows."""


@dataclasses.dataclass(frozen=True)
class ShardHeader:
    """What a shard says about itself.

    video: digest of the key. shape, dtype: of every clip. starts: the clips, in the order of their
    records. sha256: of each clip's bytes.
    """

    video: str
    shape: tuple[int, ...]
    dtype: str
    starts: tuple[int, ...]
    sha256: tuple[str, ...]


def write_shard(folder: Path, key: StoreKey, clips: Mapping[int, np.ndarray]) -> None:
    """Adds a shard of `clips` (start -> [tokens_per_clip, width] in the key's dtype) to `folder`.

    Raises OSError if it could not be written; then nothing of it is left.
    """
    header = ShardHeader(
        video=key.digest,
        shape=key.clip_shape,
        dtype=key.dtype,
        starts=tuple(clips),
        sha256=tuple(_checksum(clip.tobytes()) for clip in clips.values()),
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
    except RuntimeError as error:  # ArrayRecord's way to say that the disk is full
        raise OSError(str(error)) from error


def read_header(path: Path, video: str) -> ShardHeader:
    """The header of a shard of the video with that digest.

    Raises CorruptShardError, or OSError if the file cannot be opened at all.
    """
    with _opened(path) as reader:
        try:
            header = _parse_header(_record(reader, 0))
        except ValueError as error:
            raise CorruptShardError(f"header: {error}") from error
        if header.video != video:
            raise CorruptShardError(f"header: it belongs to video {header.video}")
        if reader.num_records() != 1 + len(header.starts):
            raise CorruptShardError(
                f"{reader.num_records()} records, not a header and {len(header.starts)} clips"
            )
    return header


def read_clips(
    path: Path, header: ShardHeader, starts: Iterable[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Pairs (start, read-only clip) for some of the header's starts, one record read at a time.

    Raises CorruptShardError at the first clip that is not as written, and OSError as above.
    """
    positions = {start: position for position, start in enumerate(header.starts)}
    with _opened(path) as reader:
        for start in starts:
            position = positions[start]
            data = _record(reader, 1 + position)
            if not is_clip(data, header.sha256[position]):
                raise CorruptShardError(f"clip {start} does not have the checksum in the header")
            yield start, np.frombuffer(data, DTYPES[header.dtype]).reshape(header.shape)


def is_clip(data: bytes, sha256: str) -> bool:
    return _checksum(data) == sha256


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _parse_header(data: bytes) -> ShardHeader:
    # What is sealed is what `write_shard` wrote; JSON has only turned tuples into lists.
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in unseal(data.decode()).items()
    }
    return ShardHeader(**fields)


@contextmanager
def _opened(path: Path) -> Iterator[ArrayRecordReader]:
    # ArrayRecord tells an unreadable file and a corrupted one apart only in words.
    path.open("rb").close()
    try:
        reader = ArrayRecordReader(str(path), READER_OPTIONS)
        try:
            yield reader
        finally:
            reader.close()  # raises once more if anything went wrong before
    except (RuntimeError, IndexError) as error:  # IndexError: fewer records than the header says
        raise CorruptShardError(str(error)) from error


def _record(reader: ArrayRecordReader, position: int) -> bytes:
    return reader.read([position])[0]


def _sync(path: Path) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
