"""The store: videos, their content hashes, and a bound on all of it."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

from xcomp_jax.token_store import eviction, paths
from xcomp_jax.token_store.errors import TokenStoreError, explained
from xcomp_jax.token_store.hash_table import HashTable
from xcomp_jax.token_store.keys import StoreKey
from xcomp_jax.token_store.shards import CorruptShardError, read_header
from xcomp_jax.token_store.video import VideoTokens

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StoredVideo:
    """One video in a store.

    key: None if nothing was written yet or its file is damaged, which the next write mends.
    clips: how many different ones.
    bytes: on disk. last_used: seconds since 1970.
    """

    digest: str
    key: StoreKey | None
    clips: int
    bytes: int
    last_used: float


class TokenStore:
    """A folder of visual tokens; made if it does not exist.

    max_bytes: before a write, least recently used videos are removed so that the store stays within
        it. Videos in use are kept, whatever their size. None: no bound.

    Raises ValueError for an impossible `max_bytes`, and here and in all methods TokenStoreError if
    the folder cannot be used; with a bound also if it holds features to train from.
    """

    def __init__(self, root: Path, max_bytes: int | None = None) -> None:
        if max_bytes is not None and (type(max_bytes) is not int or max_bytes < 1):
            raise ValueError(
                f"max_bytes={max_bytes!r} must be a whole number of at least 1, "
                "or None for a store without bound"
            )
        if max_bytes is not None and (root / paths.FEATURES_FILE).exists():
            raise TokenStoreError(
                f"token store {root}: holds features of a data mixture, none of which may go to "
                "make room; use another --store for questions about videos"
            )
        self.root = root
        self.max_bytes = max_bytes
        self._warned = False
        with explained(root):
            root.mkdir(parents=True, exist_ok=True)

    def hash_video(self, path: str | Path) -> str:
        """As `hashing.hash_video`, but a video that has not changed since is not read again.

        Unchanged means: same absolute path, file names, sizes and modification times.
        """
        return HashTable(self.root / paths.HASHES).hash_video(path)

    def video(self, key: StoreKey) -> VideoTokens:
        """The tokens of a key, stored or not; nothing is created before the first write."""
        folder = self.root / paths.VIDEOS / key.digest
        return VideoTokens(self.root, folder, key, self._make_room)

    def size_bytes(self) -> int:
        """Bytes of everything in the store."""
        with explained(self.root):
            return paths.size_bytes(self.root)

    def evict(self) -> list[str]:
        """Removes least recently used videos until the store is within `max_bytes`.

        Videos that are being read or written are passed over. Without a bound only what killed
        processes left is removed. Returns the digests of the videos removed.
        """
        with explained(self.root):
            allowed = math.inf if self.max_bytes is None else self.max_bytes
            removed, _ = eviction.evict(self.root, allowed)
        return removed

    def contents(self) -> list[StoredVideo]:
        """What is stored, least recently used first. Counts by headers, changes nothing."""
        with explained(self.root):
            videos = [self._describe(folder) for folder in paths.video_folders(self.root)]
        return sorted(videos, key=lambda video: video.last_used)

    def _make_room(self, num_bytes: int) -> None:
        if self.max_bytes is None:
            return
        if paths.size_bytes(self.root) + num_bytes <= self.max_bytes:
            return
        _, left = eviction.evict(self.root, self.max_bytes - num_bytes)
        if left + num_bytes > self.max_bytes and not self._warned:
            self._warned = True
            logger.warning(
                "%s: grows beyond max_bytes=%d, because the videos in use need more",
                *(self.root, self.max_bytes),
            )

    def _describe(self, folder: Path) -> StoredVideo:
        starts: set[int] = set()
        for path in paths.shard_files(folder):
            try:
                starts.update(read_header(path, folder.name).starts)
            except (CorruptShardError, FileNotFoundError):
                continue  # the next reader of the video removes it
        return StoredVideo(
            digest=folder.name,
            key=paths.read_key(folder),
            clips=len(starts),
            bytes=paths.size_bytes(folder),
            last_used=paths.last_use(folder),
        )
