"""Collects clips of one video for one write to its clip cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class ClipCache(Protocol):
    """Visual tokens [T * tokens_per_frame, D] of clips, keyed by their first frame.

    Keeps the hash of each clip's pixels too (`cutting.pixel_hash`).
    """

    def missing(self, starts: Iterable[int]) -> list[int]:
        """Returns the starts that are not stored, in order."""

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        """Returns the stored clips among `starts`."""

    def write(
        self, clips: Mapping[int, np.ndarray], pixel_hashes: Mapping[int, str] | None = None
    ) -> None:
        """Stores clips, and the hashes of their pixels by first frame."""

    def by_pixel_hash(self) -> dict[str, int]:
        """Returns pixel hash -> first frame of a stored clip with these pixels."""


@dataclasses.dataclass
class ClipBatch:
    """New clips by first frame: encoded ones, and copies of clips with the same pixels."""

    _pixel_hashes: dict[int, str] = dataclasses.field(default_factory=dict)
    _tokens: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    _copies: dict[int, int] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._pixel_hashes)

    def add(self, start: int, pixel_hash: str, tokens: np.ndarray) -> None:
        """Adds an encoded clip."""
        self._pixel_hashes[start] = pixel_hash
        self._tokens[start] = tokens

    def add_copy(self, start: int, pixel_hash: str, original: int) -> None:
        """Adds a clip whose tokens are those of the clip at `original`, in the cache or here."""
        self._pixel_hashes[start] = pixel_hash
        self._copies[start] = original

    def write(self, cache: ClipCache) -> None:
        """Writes the clips; copies of a clip that the cache has lost stay missing, as it does."""
        stored = cache.read(sorted(set(self._copies.values()) - self._tokens.keys()))
        originals = {**stored, **self._tokens}
        tokens = dict(self._tokens)
        for start, original in self._copies.items():
            if original in originals:
                tokens[start] = originals[original]
        cache.write(tokens, {start: self._pixel_hashes[start] for start in tokens})
