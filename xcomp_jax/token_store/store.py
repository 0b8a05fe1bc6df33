"""The token store: videos, cached content hashes, and a bound on the total size."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from pathlib import Path

from xcomp_jax.token_store import eviction, paths
from xcomp_jax.token_store.errors import TokenStoreError, as_store_error
from xcomp_jax.token_store.hash_table import HashTable
from xcomp_jax.token_store.keys import StoreKey
from xcomp_jax.token_store.listing_table import ListingTable
from xcomp_jax.token_store.shards import CorruptShardError, read_header
from xcomp_jax.token_store.video import VideoTokens

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StoredVideo:
    """Describes one video in a store.

    Attributes:
        digest: digest of the key.
        key: None before the first write, or if its file is damaged; the next write restores it.
        clips: number of distinct clips.
        bytes: size on disk.
        last_used: seconds since 1970.
    """

    digest: str
    key: StoreKey | None
    clips: int
    bytes: int
    last_used: float


class TokenStore:
    """A folder of visual tokens, keyed by content. Created if it does not exist.

    Args:
        root: the folder.
        max_bytes: bound on the size; before a write, least recently used videos are deleted to stay
            within it. Videos in use are kept whatever their size. None: no bound.

    Raises:
        ValueError: `max_bytes` is invalid.
        TokenStoreError: the folder cannot be used, here and in all methods; or `max_bytes` is set
            and the folder stores training features.
    """

    def __init__(self, root: str | os.PathLike[str], max_bytes: int | None = None) -> None:
        root = Path(root)
        if max_bytes is not None and (type(max_bytes) is not int or max_bytes < 1):
            raise ValueError(
                f"max_bytes={max_bytes!r} must be an int of at least 1, "
                "or None for a store without bound"
            )
        if max_bytes is not None and (root / paths.FEATURES_FILE).exists():
            raise TokenStoreError(
                f"token store {root}: holds features of a data mixture, which must not be "
                "evicted; use another --store for questions about videos"
            )
        self.root = root
        self.max_bytes = max_bytes
        self._warned = False
        with as_store_error(root):
            root.mkdir(parents=True, exist_ok=True)

    def hash_video(self, path: str | Path) -> str:
        """Returns `hashing.hash_video(path)`; cached while the video is unchanged.

        Unchanged means same absolute path, file names, sizes, modification and change times.
        """
        return HashTable(self.root / paths.HASHES).hash_video(path)

    @property
    def listings(self) -> ListingTable:
        """Packet lists of videos probed before, for `video.probe.probe`."""
        return ListingTable(self.root / paths.HASHES)

    def video(self, key: StoreKey) -> VideoTokens:
        """Returns the handle to a key's tokens; creates nothing before the first write."""
        folder = self.root / paths.VIDEOS / key.digest
        return VideoTokens(self.root, folder, key, self._make_room)

    def size_bytes(self) -> int:
        """Returns the total bytes of the store."""
        with as_store_error(self.root):
            return paths.size_bytes(self.root)

    def evict(self) -> list[str]:
        """Deletes least recently used videos until the store is within `max_bytes`.

        Skips videos that are being read or written. Without a bound, only the leftovers of killed
        processes are deleted. Returns the digests of the deleted videos.
        """
        with as_store_error(self.root):
            allowed = math.inf if self.max_bytes is None else self.max_bytes
            evicted, _ = eviction.evict(self.root, allowed)
        return evicted

    def contents(self) -> list[StoredVideo]:
        """Lists the stored videos, least recently used first. Reads headers only."""
        with as_store_error(self.root):
            videos = [self._describe(folder) for folder in paths.video_folders(self.root)]
        return sorted(videos, key=lambda video: video.last_used)

    def _make_room(self, num_bytes: int) -> None:
        if self.max_bytes is None:
            return
        if paths.size_bytes(self.root) + num_bytes <= self.max_bytes:
            return
        _, remaining = eviction.evict(self.root, self.max_bytes - num_bytes)
        if remaining + num_bytes > self.max_bytes and not self._warned:
            self._warned = True
            logger.warning(
                "%s: grows beyond max_bytes=%d, because the videos in use need more space",
                *(self.root, self.max_bytes),
            )

    def _describe(self, folder: Path) -> StoredVideo:
        starts: set[int] = set()
        for path in paths.shard_files(folder):
            try:
                starts.update(read_header(path, folder.name).starts)
            except (CorruptShardError, FileNotFoundError):
                continue  # The next reader of the video deletes it.
        return StoredVideo(
            digest=folder.name,
            key=paths.read_key(folder),
            clips=len(starts),
            bytes=paths.size_bytes(folder),
            last_used=paths.last_use(folder),
        )
