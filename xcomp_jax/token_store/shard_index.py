"""The headers of one video's shards in memory, and reads that discard corrupted shards."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from xcomp_jax.token_store.paths import shard_files
from xcomp_jax.token_store.shards import (
    CorruptShardError,
    ShardHeader,
    read_clips,
    read_header,
)

logger = logging.getLogger(__name__)


class ShardIndex:
    """Headers of the shards in a video's folder.

    The caller holds the video's lock. A shard found to be corrupted is logged and deleted, so that
    its clips count as missing from then on.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        self._digest = digest
        self._headers: dict[str, ShardHeader] = {}

    def refresh(self) -> None:
        """Brings the headers up to date with the folder; reads each header once."""
        names = {path.name for path in shard_files(self._folder)}
        self._headers = {name: self._headers[name] for name in self._headers if name in names}
        for name in sorted(names - self._headers.keys()):
            with self._discarding(name):
                self._headers[name] = read_header(self._folder / name, self._digest)

    def starts(self) -> set[int]:
        """Returns the starts of all clips that the shards contain."""
        return {start for header in self._headers.values() for start in header.starts}

    def by_pixel_hash(self) -> dict[str, int]:
        """Returns pixel hash -> start of a clip; shards without pixel hashes add nothing."""
        return {
            pixel_hash: start
            for header in self._headers.values()
            for pixel_hash, start in zip(header.pixel_hashes, header.starts, strict=False)
        }

    def read(self, starts: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (start, clip) once per available clip.

        If a shard is corrupted, its clips are read from other shards that contain them.
        """
        pending = dict.fromkeys(starts)
        for name, header in list(self._headers.items()):
            available = [start for start in header.starts if start in pending]
            if not available:
                continue
            with self._discarding(name):
                for start, clip in read_clips(self._folder / name, header, available):
                    del pending[start]
                    yield start, clip

    def verify(self) -> None:
        """Reads every clip of every shard, one at a time, and discards corrupted shards."""
        for name, header in list(self._headers.items()):
            with self._discarding(name):
                for _ in read_clips(self._folder / name, header, header.starts):
                    pass

    def remove_duplicates(self) -> None:
        """Deletes shards whose clips are all contained in other shards, smallest first."""
        covered: set[int] = set()
        by_size = sorted(self._headers.items(), key=lambda item: (-len(item[1].starts), item[0]))
        for name, header in by_size:
            if covered.issuperset(header.starts):
                (self._folder / name).unlink()
                del self._headers[name]
            covered.update(header.starts)

    @contextmanager
    def _discarding(self, name: str) -> Iterator[None]:
        """Drops the shard if the block finds it missing; also deletes it if it is corrupted."""
        path = self._folder / name
        try:
            yield
        except FileNotFoundError:  # Another process found it corrupted.
            self._headers.pop(name, None)
        except CorruptShardError as error:
            self._headers.pop(name, None)
            logger.warning("%s: corrupted; its clips must be encoded again: %s", path, error)
            try:
                path.unlink(missing_ok=True)
            except OSError as problem:  # The store is read-only.
                logger.warning("%s: cannot be deleted: %s", path, problem)
