"""The tokens of one video in the store, as one process sees them."""

from __future__ import annotations

import logging
import operator
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import numpy as np

from xcomp_jax.files import write_json
from xcomp_jax.token_store.errors import explained
from xcomp_jax.token_store.keys import DTYPES, StoreKey
from xcomp_jax.token_store.locks import EXCLUSIVE, SHARED, locked
from xcomp_jax.token_store.paths import (
    KEY_FILE,
    LOCK_FILE,
    partial_files,
    read_key,
    shard_files,
)
from xcomp_jax.token_store.shards import (
    CorruptShardError,
    ShardHeader,
    read_clips,
    read_header,
    write_shard,
)

logger = logging.getLogger(__name__)


class VideoTokens:
    """Clips of one key, by their start. Made by `TokenStore.video`; one thread at a time uses it.

    A video is safe from eviction during each call, and in `with store.video(key) as video:` for
    the whole block: use that to encode in several steps. All methods raise TokenStoreError if the
    disk is full or the store not accessible, and ValueError for a start outside [0, num_clips).
    """

    def __init__(self, root: Path, folder: Path, key: StoreKey, make_room: Callable[[int], None]):
        self.key = key
        self._root = root
        self._folder = folder
        self._make_room = make_room
        self._shards: dict[str, ShardHeader] = {}
        self._block: ExitStack | None = None

    def __enter__(self) -> Self:
        with explained(self._root), ExitStack() as stack:
            stack.enter_context(self._in_use(create=True))
            self._block = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._block is not None
        block, self._block = self._block, None
        block.close()

    def missing(self, starts: Iterable[int]) -> list[int]:
        """Those of `starts` that are not stored, each once, in the given order.

        Looks at headers only: a clip whose bytes went bad shows when it is read.
        """
        wanted = self._checked(starts)
        with explained(self._root), self._in_use():
            self._refresh()
            stored = self._stored()
            return [start for start in wanted if start not in stored]

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        """start -> read-only clip [tokens_per_clip, width] for those of `starts` that are stored.

        Nothing else is loaded. Every clip is checked; a shard with a bad one is logged and removed,
        so that its clips are missing from then on and can be written again.
        """
        found: dict[int, np.ndarray] = {}
        wanted = self._checked(starts)
        with explained(self._root), self._in_use():
            self._refresh()
            found.update(self._read_valid(wanted))
        return {start: found[start] for start in wanted if start in found}

    def verify(self) -> list[int]:
        """Reads every stored clip, one at a time; the starts that turned out bad and are gone."""
        with explained(self._root), self._in_use():
            self._refresh()
            before = self._stored()
            for name, header in list(self._shards.items()):
                with self._discarding(name):
                    for _ in read_clips(self._folder / name, header, header.starts):
                        pass
            return sorted(before - self._stored())

    def write(self, clips: Mapping[int, np.ndarray]) -> None:
        """Stores start -> [tokens_per_clip, width] in the key's dtype: all of them or none.

        Writing a clip again is harmless. Raises ValueError for another shape or dtype and for
        values that are not finite.
        """
        checked = {start: self._checked_clip(start, clips[start]) for start in self._checked(clips)}
        if not checked:
            return
        with explained(self._root), self._in_use(create=True):
            self._write_key()
            self._make_room(sum(clip.nbytes for clip in checked.values()))
            write_shard(self._folder, self.key, checked)

    # --- what is asked for ----------------------------------------------------------------------

    def _checked(self, starts: Iterable[int]) -> list[int]:
        wanted = list(dict.fromkeys(map(operator.index, starts)))
        bad = [start for start in wanted if not 0 <= start < self.key.num_clips]
        if bad:
            raise ValueError(
                f"clip starts {bad[:8]} lie outside [0, {self.key.num_clips}): a video of "
                f"{self.key.num_clips} chosen frames has one clip for each"
            )
        return wanted

    def _checked_clip(self, start: int, clip: np.ndarray) -> np.ndarray:
        clip = np.asarray(clip)
        if clip.shape != self.key.clip_shape or clip.dtype != DTYPES[self.key.dtype]:
            raise ValueError(
                f"clip {start} is {clip.dtype}{list(clip.shape)}, the key says "
                f"{self.key.dtype}{list(self.key.clip_shape)}"
            )
        bad = clip.size - np.count_nonzero(np.isfinite(clip))
        if bad:
            raise ValueError(
                f"clip {start}: {bad} of {clip.size} values are not finite, and would be wrong in "
                "every later answer; look for overflow in the encoder (float32 instead of "
                "bfloat16?) or a damaged checkpoint"
            )
        return clip

    # --- the folder -----------------------------------------------------------------------------

    @contextmanager
    def _in_use(self, *, create: bool = False) -> Iterator[None]:
        """Keeps the video from being evicted, if there is one or `create` makes it."""
        if self._block is not None:
            yield
            return
        if create:
            self._tidy()
        while True:
            if create:
                self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder / LOCK_FILE, SHARED) as lock:
                if lock is None and create:
                    continue  # evicted this very moment
                if lock is not None:
                    _stamp(lock)
                yield
                return

    def _tidy(self) -> None:
        """Removes what killed and concurrent writers left, if nobody else uses the video.

        A partial file has no living writer then, and a shard is not needed whose clips are all in
        others.
        """
        with (
            suppress(OSError),  # a store that can only be read stays as it is
            locked(self._folder / LOCK_FILE, EXCLUSIVE, wait=False) as lock,
        ):
            if lock is None:
                return
            for file in partial_files(self._folder):
                file.unlink()
            self._refresh()
            seen: set[int] = set()
            for name, header in sorted(
                self._shards.items(), key=lambda item: (-len(item[1].starts), item[0])
            ):
                if seen.issuperset(header.starts):
                    (self._folder / name).unlink()
                    del self._shards[name]
                seen.update(header.starts)

    def _write_key(self) -> None:
        if read_key(self._folder) != self.key:
            # `write_json` gives its partial file a fixed name: one writer at a time.
            with locked(self._root / LOCK_FILE, EXCLUSIVE):
                write_json(self._folder / KEY_FILE, self.key.to_dict())

    # --- shards ---------------------------------------------------------------------------------

    def _stored(self) -> set[int]:
        return {start for header in self._shards.values() for start in header.starts}

    def _refresh(self) -> None:
        """Brings the headers in memory up to date with the folder; each is read once."""
        names = {path.name for path in shard_files(self._folder)}
        self._shards = {name: self._shards[name] for name in self._shards if name in names}
        for name in sorted(names - self._shards.keys()):
            with self._discarding(name):
                self._shards[name] = read_header(self._folder / name, self.key.digest)

    def _read_valid(self, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Every clip once; where a shard fails, from another that has the clip."""
        left = dict.fromkeys(wanted)
        for name, header in list(self._shards.items()):
            here = [start for start in header.starts if start in left]
            if not here:
                continue
            with self._discarding(name):
                for start, clip in read_clips(self._folder / name, header, here):
                    del left[start]
                    yield start, clip

    @contextmanager
    def _discarding(self, name: str) -> Iterator[None]:
        """Forgets a shard that the block finds gone, and removes one that it finds corrupted."""
        path = self._folder / name
        try:
            yield
        except FileNotFoundError:  # another process found it corrupted
            self._shards.pop(name, None)
        except CorruptShardError as error:
            self._shards.pop(name, None)
            logger.warning("%s: corrupted, its clips have to be encoded again: %s", path, error)
            try:
                path.unlink(missing_ok=True)
            except OSError as problem:  # a store that can only be read
                logger.warning("%s: cannot be removed: %s", path, problem)


def _stamp(lock: int) -> None:
    """Marks the video as used now; only the order of eviction depends on it."""
    now = time.time_ns()  # finer than what the system would put there
    # Fails in a store that can only be read, and there nothing is evicted.
    with suppress(OSError):
        os.utime(lock, ns=(now, now))
