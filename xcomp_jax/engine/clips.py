"""Serves visual tokens of any clip of one video; encodes each clip at most once.

A clip is T of the video's sampled frames. Scoring windows are shifted by single frames, so clips
may begin at any frame, and selected frames are cut into new clips. Clips of consecutive frames are
keyed by their first frame and kept in a clip cache, in memory or on disk (`token_store`).
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from xcomp_jax import account
from xcomp_jax.engine.encoder import ClipEncoder
from xcomp_jax.engine.pipeline import Writer
from xcomp_jax.video.damage import Damage
from xcomp_jax.video.decode import MAX_DAMAGED, Frame, read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo

Clip = tuple[int, ...]
"""The frames of a clip, as indices into the list of sampled frames."""

CLIPS_PER_WRITE = 32
"""Encoded clips per write; bounds the work that a killed process loses."""


class ClipCache(Protocol):
    """Visual tokens [T * tokens_per_frame, D] of clips, keyed by their first frame."""

    def missing(self, starts: Iterable[int]) -> list[int]:
        """Returns the starts that are not stored, in order."""

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        """Returns the stored clips among `starts`."""

    def write(self, clips: Mapping[int, np.ndarray]) -> None:
        """Stores clips."""


class MemoryClipCache:
    """Keeps clips in host memory, for a video used by one process."""

    def __init__(self) -> None:
        self._clips: dict[int, np.ndarray] = {}

    def missing(self, starts: Iterable[int]) -> list[int]:
        return [start for start in starts if start not in self._clips]

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        return {start: self._clips[start] for start in starts if start in self._clips}

    def write(self, clips: Mapping[int, np.ndarray]) -> None:
        self._clips.update(clips)


class FrameSource(Protocol):
    """Yields sampled frames of a video, any number of times."""

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yields uint8 [X, X, 3] for each index into the sampled frames; indices ascend."""


class FileFrames:
    """Decodes the sampled frames of a file or folder again at each call.

    Args:
        video: path, or result of `probe`.
        frame_numbers: [F] numbers of the sampled frames in the video.
        size: X, side of the frames.
        max_damaged: largest share of damaged frames to accept.

    Raises:
        VideoError: by `frames`, if the file was changed, moved or deleted since this object was
            created.
    """

    def __init__(
        self,
        video: Path | VideoInfo,
        frame_numbers: Sequence[int],
        size: int,
        *,
        max_damaged: float = MAX_DAMAGED,
    ) -> None:
        self.video, self.frame_numbers, self.size = video, frame_numbers, size
        self.max_damaged = max_damaged
        self.damage = Damage(requested=len(set(frame_numbers)))
        self._path = video.path if isinstance(video, VideoInfo) else video
        self._state = _file_state(self._path)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        if _file_state(self._path) != self._state:
            raise VideoError(
                self._path,
                "the file was changed, moved or deleted after its frames were sampled",
                "Encode it again.",
            )
        numbers = [self.frame_numbers[index] for index in indices]
        return read_frames(
            self.video,
            numbers,
            size=self.size,
            max_damaged=self.max_damaged,
            damage=self.damage,
        )


def _file_state(path: Path) -> tuple[int, int, int] | None:
    """Returns what changes with a file's content: inode, size and time of modification."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


class ArrayFrames:
    """Serves sampled frames from memory, uint8 [F, X, X, 3]."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        for index in indices:
            yield self.pixels[index]


def cut_clips(
    indices: Sequence[int], frames: Iterator[Frame], clips: Sequence[Clip]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the number and pixels [T, X, X, 3] of each clip once its last frame is read.

    Only frames of unfinished clips are held.

    Args:
        frames: in the order of `indices`, which cover every frame of `clips`.
    """
    uses: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)
    for number, clip in enumerate(clips):
        for slot, index in enumerate(clip):
            uses[index].append((number, slot))
    unfinished: dict[int, dict[int, Frame]] = collections.defaultdict(dict)
    for index, frame in zip(indices, frames, strict=True):
        for number, slot in uses[index]:
            unfinished[number][slot] = frame
            if len(unfinished[number]) == len(clips[number]):
                finished = unfinished.pop(number)
                yield number, np.stack([finished[i] for i in range(len(finished))])


class VideoClips:
    """Encodes and caches the clips of one video.

    Args:
        num_frames: number of sampled frames; a clip may wrap around from the last to the first.
        clip_frames: T, frames of a clip.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        source: FrameSource,
        clip_cache: ClipCache,
        *,
        num_frames: int,
        clip_frames: int,
    ) -> None:
        self.source = source
        self.num_frames = num_frames
        self.encoder = encoder
        self._clip_cache = clip_cache
        self._clip_frames = clip_frames

    def clip_at(self, start: int) -> Clip:
        """Returns the clip of consecutive frames that begins at `start`."""
        return tuple((start + i) % self.num_frames for i in range(self._clip_frames))

    def prepare(
        self, starts: Sequence[int], *, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Encodes and stores the clips that are missing in the cache, in one pass over the video.

        Decoding, encoding and storing overlap. After an error or Ctrl-C, clips already submitted
        for storing are still written.

        Args:
            progress: called with (clips done, clips in total).
        """
        distinct = list(dict.fromkeys(starts))
        missing = self._clip_cache.missing(distinct)
        done = len(distinct) - len(missing)
        account.count("clips reused", done)
        if progress is not None and not missing:
            progress(done, len(distinct))
        batch: dict[int, np.ndarray] = {}
        encoded = self._encoded([self.clip_at(start) for start in missing])
        with Writer() as writer, contextlib.closing(encoded):
            try:
                for number, tokens in encoded:
                    batch[missing[number]] = tokens
                    done += 1
                    if len(batch) == CLIPS_PER_WRITE:
                        writer.submit(self._store, batch)
                        batch = {}
                    if progress is not None:
                        progress(done, len(distinct))
            finally:
                if batch:
                    writer.submit(self._store, batch)

    def tokens(self, clips: Sequence[Clip]) -> np.ndarray:
        """Returns visual tokens [len(clips), T * tokens_per_frame, D]; encodes missing clips."""
        consecutive = {i: clip[0] for i, clip in enumerate(clips) if clip == self.clip_at(clip[0])}
        stored = self._clip_cache.read(consecutive.values())
        tokens = {i: stored[start] for i, start in consecutive.items() if start in stored}
        account.count("clips reused", len(tokens))
        missing = [i for i in range(len(clips)) if i not in tokens]
        new: dict[int, np.ndarray] = {}
        with contextlib.closing(self._encoded([clips[i] for i in missing])) as encoded:
            for number, clip_tokens in encoded:
                index = missing[number]
                tokens[index] = clip_tokens
                if index in consecutive:
                    new[consecutive[index]] = clip_tokens
        if new:
            self._store(new)
        return np.stack([tokens[i] for i in range(len(clips))])

    def _store(self, clips: Mapping[int, np.ndarray]) -> None:
        with account.measure("store clips"):
            self._clip_cache.write(clips)

    def _encoded(self, clips: Sequence[Clip]) -> Generator[tuple[int, np.ndarray], None, None]:
        if not clips:
            return
        indices = sorted({index for clip in clips for index in clip})
        yield from self.encoder.stream(cut_clips(indices, self.source.frames(indices), clips))
