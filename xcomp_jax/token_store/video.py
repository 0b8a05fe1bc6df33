"""Reads and writes the tokens of one video in the store."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import numpy as np

from xcomp_jax.files import write_json
from xcomp_jax.token_store.errors import as_store_error
from xcomp_jax.token_store.keys import DTYPES, StoreKey
from xcomp_jax.token_store.locks import EXCLUSIVE, SHARED, locked
from xcomp_jax.token_store.paths import KEY_FILE, LOCK_FILE, partial_files, read_key
from xcomp_jax.token_store.shard_index import ShardIndex
from xcomp_jax.token_store.shards import write_shard


class VideoTokens:
    """The stored clips of one key, by start index. Created by `TokenStore.video`.

    Not thread-safe. A video is protected from eviction during each call, and during a whole
    `with store.video(key) as video:` block; use the block to encode in several steps.

    All methods raise TokenStoreError if the disk is full or the store is not accessible, and
    ValueError for a start outside [0, num_clips).
    """

    def __init__(self, root: Path, folder: Path, key: StoreKey, make_room: Callable[[int], None]):
        self.key = key
        self._root = root
        self._folder = folder
        self._make_room = make_room
        self._index = ShardIndex(folder, key.digest)
        self._block: ExitStack | None = None

    def __enter__(self) -> Self:
        with as_store_error(self._root), ExitStack() as stack:
            stack.enter_context(self._in_use(create=True))
            self._block = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._block is not None
        block, self._block = self._block, None
        block.close()

    def missing(self, starts: Iterable[int]) -> list[int]:
        """Returns those of `starts` that are not stored, each once, in the order of `starts`.

        Reads headers only; a clip with damaged bytes is detected when it is read.
        """
        requested = self._checked_starts(starts)
        with as_store_error(self._root), self._in_use():
            self._index.refresh()
            stored = self._index.starts()
            return [start for start in requested if start not in stored]

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        """Returns start -> read-only clip [tokens_per_clip, width] for the stored ones of `starts`.

        Reads no other clips. Verifies every clip; a shard with a damaged one is logged and deleted,
        so that its clips count as missing and can be written again.
        """
        clips: dict[int, np.ndarray] = {}
        requested = self._checked_starts(starts)
        with as_store_error(self._root), self._in_use():
            self._index.refresh()
            clips.update(self._index.read(requested))
        return {start: clips[start] for start in requested if start in clips}

    def verify(self) -> list[int]:
        """Verifies every stored clip, one at a time; returns the starts that were discarded."""
        with as_store_error(self._root), self._in_use():
            self._index.refresh()
            before = self._index.starts()
            self._index.verify()
            return sorted(before - self._index.starts())

    def by_pixel_hash(self) -> dict[str, int]:
        """Returns pixel hash -> start of a stored clip with these pixels; reads headers only.

        Clips that were written without their pixel hash are not listed.
        """
        with as_store_error(self._root), self._in_use():
            self._index.refresh()
            return self._index.by_pixel_hash()

    def write(
        self, clips: Mapping[int, np.ndarray], pixel_hashes: Mapping[int, str] | None = None
    ) -> None:
        """Stores start -> [tokens_per_clip, width] in the key's dtype: all of them or none.

        Writing a stored clip again is harmless.

        Args:
            pixel_hashes: start -> hash of the clip's pixels, for every clip or None.

        Raises:
            ValueError: a clip has another shape or dtype, or values that are not finite.
        """
        starts = self._checked_starts(clips)
        checked = {start: self._checked_clip(start, clips[start]) for start in starts}
        if not checked:
            return
        with as_store_error(self._root), self._in_use(create=True):
            self._write_key()
            self._make_room(sum(clip.nbytes for clip in checked.values()))
            write_shard(self._folder, self.key, checked, pixel_hashes or {})

    # --- arguments ------------------------------------------------------------------------------

    def _checked_starts(self, starts: Iterable[int]) -> list[int]:
        distinct = list(dict.fromkeys(map(operator.index, starts)))
        invalid = [start for start in distinct if not 0 <= start < self.key.num_clips]
        if invalid:
            raise ValueError(
                f"clip starts {invalid[:8]} lie outside [0, {self.key.num_clips}): a video of "
                f"{self.key.num_clips} sampled frames has one clip per frame"
            )
        return distinct

    def _checked_clip(self, start: int, clip: np.ndarray) -> np.ndarray:
        clip = np.asarray(clip)
        if clip.shape != self.key.clip_shape or clip.dtype != DTYPES[self.key.dtype]:
            raise ValueError(
                f"clip {start} is {clip.dtype}{list(clip.shape)}; the key requires "
                f"{self.key.dtype}{list(self.key.clip_shape)}"
            )
        count = clip.size - np.count_nonzero(np.isfinite(clip))
        if count:
            raise ValueError(
                f"clip {start}: {count} of {clip.size} values are not finite and would corrupt "
                "every later answer; check for overflow in the encoder (float32 instead of "
                "bfloat16?) or a damaged checkpoint"
            )
        return clip

    # --- the folder -----------------------------------------------------------------------------

    @contextmanager
    def _in_use(self, *, create: bool = False) -> Iterator[None]:
        """Protects the video from eviction during the block, if it exists or `create` is set."""
        if self._block is not None:
            yield
            return
        if create:
            self._clean_up()
        while True:
            if create:
                self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder / LOCK_FILE, SHARED) as lock:
                if lock is None and create:
                    continue  # Evicted between mkdir and lock.
                if lock is not None:
                    _touch(lock)
                yield
                return

    def _clean_up(self) -> None:
        """Deletes partial files of killed writers and duplicates of concurrent ones.

        Only with the exclusive lock: then no partial file has a running writer.
        """
        with (
            suppress(OSError),  # A read-only store is left as it is.
            locked(self._folder / LOCK_FILE, EXCLUSIVE, wait=False) as lock,
        ):
            if lock is None:
                return
            for file in partial_files(self._folder):
                file.unlink()
            self._index.refresh()
            self._index.remove_duplicates()

    def _write_key(self) -> None:
        if read_key(self._folder) != self.key:
            # `write_json` uses a fixed name for its partial file, so writers take turns.
            with locked(self._root / LOCK_FILE, EXCLUSIVE):
                write_json(self._folder / KEY_FILE, self.key.to_dict())


def _touch(lock: int) -> None:
    """Sets the time of last use, which determines the order of eviction."""
    now = time.time_ns()  # Finer than the time the system would set.
    # Fails in a read-only store, where nothing is evicted anyway.
    with suppress(OSError):
        os.utime(lock, ns=(now, now))
