"""Serves the visual tokens of a haystack with needles inserted, without encoding anything again.

A needle is an image repeated over one clip, as in the original, and its tokens stand before those
of a haystack frame. Frames are addressed one by one, so that selection keeps tokens that are
already encoded instead of cutting new clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from xcomp_jax.engine.clips import ClipCache

CLIPS_PER_READ = 256
"""Clips of the haystack that are held at a time while frames are cut out of them."""


@dataclasses.dataclass(frozen=True)
class HaystackTokens:
    """Visual tokens of the encoded frames of a haystack, read from its clip cache.

    encoded: number of distinct frames; later frames begin again with the first, as in the original.
    """

    cache: ClipCache
    encoded: int
    clip_frames: int

    def frames(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns [len(numbers), tokens_per_frame, D].

        Raises:
            KeyError: a clip is not stored.
        """
        places = np.asarray(numbers) % self.encoded
        starts, clip_of_frame = np.unique(places - places % self.clip_frames, return_inverse=True)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for first in range(0, len(starts), CLIPS_PER_READ):
            chunk = starts[first : first + CLIPS_PER_READ].tolist()
            stored = self.cache.read(chunk)
            clips = np.stack([stored[start] for start in chunk])
            clips = clips.reshape(len(chunk), self.clip_frames, -1, clips.shape[-1])
            in_chunk = clip_of_frame - first
            rows = np.flatnonzero((in_chunk >= 0) & (in_chunk < len(chunk)))
            parts.append((rows, clips[in_chunk[rows], places[rows] % self.clip_frames]))
        tokens = np.empty((len(places), *parts[0][1].shape[1:]), parts[0][1].dtype)
        for rows, part in parts:
            tokens[rows] = part
        return tokens


@dataclasses.dataclass(frozen=True)
class InsertedNeedle:
    """Visual tokens [T, tokens_per_frame, D] that stand before haystack frame `frame`."""

    frame: int
    tokens: np.ndarray


class NeedleFrames:
    """A `ClipCache` whose clips are the single frames of a haystack with needles.

    Args:
        length: frames of the haystack.
        needles: in the order of their frames; several may stand before the same frame.
    """

    def __init__(
        self, haystack: HaystackTokens, needles: Sequence[InsertedNeedle], length: int
    ) -> None:
        self._haystack = haystack
        self._needle_rows = np.concatenate([needle.tokens for needle in needles])
        parts, before = [], 0
        spans, inserted = [], 0
        for needle in needles:
            parts.append(np.arange(before, needle.frame))
            count = len(needle.tokens)
            # Frames of needles are counted from -1 downwards.
            parts.append(-1 - np.arange(inserted, inserted + count))
            spans.append(range(needle.frame + inserted, needle.frame + inserted + count))
            before, inserted = needle.frame, inserted + count
        parts.append(np.arange(before, length))
        self._sources = np.concatenate(parts)
        self.needle_frames = tuple(spans)
        """Frames of each needle, as indices into the sequence."""

    def __len__(self) -> int:
        return len(self._sources)

    def missing(self, starts: Iterable[int]) -> list[int]:
        """Returns nothing: every frame is encoded."""
        return []

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        starts = list(starts)
        sources = self._sources[starts]
        hay = np.flatnonzero(sources >= 0)
        tokens = {
            starts[i]: self._needle_rows[-1 - sources[i]]
            for i in np.flatnonzero(sources < 0).tolist()
        }
        if len(hay):
            rows = self._haystack.frames(sources[hay].tolist())
            tokens |= {starts[i]: row for i, row in zip(hay.tolist(), rows, strict=True)}
        return tokens

    def by_pixel_hash(self) -> dict[str, int]:
        return {}

    def write(
        self, clips: Mapping[int, np.ndarray], pixel_hashes: Mapping[int, str] | None = None
    ) -> None:
        """Refuses: frames of a haystack are encoded before any question."""
        raise AssertionError(f"frames {sorted(clips)[:3]} were encoded again")
