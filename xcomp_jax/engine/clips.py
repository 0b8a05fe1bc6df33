"""Visual tokens of any clip of one video, encoded at most once.

A clip is T of the video's chosen frames. Scoring windows are shifted by single frames, so clips
begin at any frame; and selected frames are cut into clips anew. Clips of consecutive frames are
known by the first one and kept on a shelf, in memory or on disk (`token_store`).
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.video.decode import Frame, read_frames

Clip = tuple[int, ...]
"""The frames of a clip, as places in the list of chosen frames."""

CLIPS_PER_WRITE = 32
"""Clips that are encoded before they are put away: what a kill can cost."""


class ClipCache(Protocol):
    """Tokens [T * tokens_per_frame, D] of clips by their first frame."""

    def missing(self, starts: Iterable[int]) -> list[int]:
        """Those of `starts` that are not there, in order."""

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        """Those of `starts` that are there."""

    def write(self, clips: Mapping[int, np.ndarray]) -> None:
        """Puts clips there."""


class MemoryClipCache:
    """A shelf in host memory, for a video that is looked at once."""

    def __init__(self) -> None:
        self._clips: dict[int, np.ndarray] = {}

    def missing(self, starts: Iterable[int]) -> list[int]:
        return [start for start in starts if start not in self._clips]

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        return {start: self._clips[start] for start in starts if start in self._clips}

    def write(self, clips: Mapping[int, np.ndarray]) -> None:
        self._clips.update(clips)


class FrameSource(Protocol):
    """Where a video's chosen frames come from, as often as they are needed."""

    def frames(self, places: Sequence[int]) -> Iterator[Frame]:
        """uint8 [S, S, 3] for every place of `places`, which ascend."""


class FileFrames:
    """Chosen frames of a file or folder, decoded again at each call."""

    def __init__(self, path: Path, indices: Sequence[int], size: int) -> None:
        self.path, self.indices, self.size = path, indices, size

    def frames(self, places: Sequence[int]) -> Iterator[Frame]:
        return read_frames(self.path, [self.indices[place] for place in places], size=self.size)


class ArrayFrames:
    """Chosen frames that are in memory already, uint8 [F, S, S, 3]."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def frames(self, places: Sequence[int]) -> Iterator[Frame]:
        for place in places:
            yield self.pixels[place]


def cut_clips(
    places: Sequence[int], frames: Iterator[Frame], clips: Sequence[Clip]
) -> Iterator[tuple[int, np.ndarray]]:
    """Number and pixels [T, S, S, 3] of each clip, as soon as its last frame has come.

    `frames` come in the order of `places`, which hold every frame of `clips`. Only frames of
    unfinished clips are held.
    """
    uses: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)
    for number, clip in enumerate(clips):
        for slot, place in enumerate(clip):
            uses[place].append((number, slot))
    unfinished: dict[int, dict[int, Frame]] = collections.defaultdict(dict)
    for place, frame in zip(places, frames, strict=True):
        for number, slot in uses[place]:
            unfinished[number][slot] = frame
            if len(unfinished[number]) == len(clips[number]):
                done = unfinished.pop(number)
                yield number, np.stack([done[i] for i in range(len(done))])


class VideoClips:
    """The clips of one video.

    Args:
        encode: uint8 clips [C, T, S, S, 3] -> tokens [C, T * tokens_per_frame, D].
        num_frames: chosen frames; a clip may run over their end to their beginning.
        clips_per_call: how many clips `encode` takes at a time.
    """

    def __init__(
        self,
        encode: Callable[[np.ndarray], np.ndarray],
        source: FrameSource,
        shelf: ClipCache,
        *,
        num_frames: int,
        clip_frames: int,
        clips_per_call: int,
    ) -> None:
        self.source = source
        self.num_frames = num_frames
        self._encode = encode
        self._shelf = shelf
        self._clip_frames = clip_frames
        self._clips_per_call = clips_per_call

    def clip_at(self, start: int) -> Clip:
        """The clip of consecutive frames from `start` on."""
        return tuple((start + i) % self.num_frames for i in range(self._clip_frames))

    def prepare(
        self,
        starts: Sequence[int],
        stopwatch: Stopwatch,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Encodes those clips that are not on the shelf, in one pass over the video.

        Args:
            progress: called with (clips done, clips in all).
        """
        wanted = list(dict.fromkeys(starts))
        missing = self._shelf.missing(wanted)
        stopwatch.count("clips reused", len(wanted) - len(missing))
        done, ready = len(wanted) - len(missing), {}
        for number, tokens in self._encoded([self.clip_at(start) for start in missing], stopwatch):
            ready[missing[number]] = tokens
            done += 1
            if len(ready) == CLIPS_PER_WRITE:
                self._shelf.write(ready)
                ready = {}
            if progress is not None:
                progress(done, len(wanted))
        if ready:
            self._shelf.write(ready)
        if not missing and progress is not None:
            progress(done, len(wanted))

    def tokens(self, clips: Sequence[Clip], stopwatch: Stopwatch) -> np.ndarray:
        """[len(clips), T * tokens_per_frame, D]; encodes what has to be."""
        named = {i: clip[0] for i, clip in enumerate(clips) if clip == self.clip_at(clip[0])}
        kept = self._shelf.read(named.values())
        found = {i: kept[start] for i, start in named.items() if start in kept}
        stopwatch.count("clips reused", len(found))
        left = [i for i in range(len(clips)) if i not in found]
        fresh = {}
        for number, tokens in self._encoded([clips[i] for i in left], stopwatch):
            place = left[number]
            found[place] = tokens
            if place in named:
                fresh[named[place]] = tokens
        if fresh:
            self._shelf.write(fresh)
        return np.stack([found[i] for i in range(len(clips))])

    def _encoded(
        self, clips: Sequence[Clip], stopwatch: Stopwatch
    ) -> Iterator[tuple[int, np.ndarray]]:
        if not clips:
            return
        places = sorted({place for clip in clips for place in clip})
        cut = cut_clips(places, self.source.frames(places), clips)
        while True:
            begin = time.perf_counter()
            some = list(itertools.islice(cut, self._clips_per_call))
            stopwatch.measure("decode", begin)
            if not some:
                return
            begin = time.perf_counter()
            tokens = self._encode(np.stack([pixels for _, pixels in some]))
            stopwatch.measure("encode", begin)
            stopwatch.count("clips encoded", len(some))
            for (number, _), one in zip(some, tokens, strict=True):
                yield number, one
