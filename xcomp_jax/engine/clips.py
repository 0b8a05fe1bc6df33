"""Serves visual tokens of any clip of one video; encodes each clip at most once.

A clip is T of the video's sampled frames. Scoring windows are shifted by single frames, so clips
may begin at any frame, and selected frames are cut into new clips. Clips of consecutive frames are
keyed by their first frame and kept in a clip cache, in memory or on disk (`token_store`). A clip
whose pixels equal those of another clip of the video is not encoded again: its tokens are copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from xcomp_jax import account
from xcomp_jax.engine.clip_batch import ClipBatch, ClipCache
from xcomp_jax.engine.cutting import Clip, cut_clips, hashed_frames, pixel_hash
from xcomp_jax.engine.encoder import ClipEncoder
from xcomp_jax.engine.pipeline import Writer
from xcomp_jax.video.damage import Damage
from xcomp_jax.video.decode import MAX_DAMAGED, Frame, read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo

CLIPS_PER_WRITE = 32
"""Encoded clips per write; bounds the work that a killed process loses."""


class MemoryClipCache:
    """Keeps clips in host memory, for a video used by one process."""

    def __init__(self) -> None:
        self._clips: dict[int, np.ndarray] = {}
        self._by_pixel_hash: dict[str, int] = {}

    def missing(self, starts: Iterable[int]) -> list[int]:
        return [start for start in starts if start not in self._clips]

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        return {start: self._clips[start] for start in starts if start in self._clips}

    def write(
        self, clips: Mapping[int, np.ndarray], pixel_hashes: Mapping[int, str] | None = None
    ) -> None:
        self._clips.update(clips)
        for start, value in (pixel_hashes or {}).items():
            self._by_pixel_hash.setdefault(value, start)

    def by_pixel_hash(self) -> dict[str, int]:
        return dict(self._by_pixel_hash)


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
        threads: as in `read_frames`; 1 if several files are read at a time.

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
        threads: int | None = None,
    ) -> None:
        self.video, self.frame_numbers, self.size = video, frame_numbers, size
        self.max_damaged, self.threads = max_damaged, threads
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
            threads=self.threads,
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
        if not missing:
            if progress is not None:
                progress(done, len(distinct))
            return
        originals = self._clip_cache.by_pixel_hash()
        encoded = self._encoded([self.clip_at(start) for start in missing], set(originals))
        batch = ClipBatch()
        with Writer() as writer, contextlib.closing(encoded):
            try:
                for number, pixels, tokens in encoded:
                    start = missing[number]
                    if tokens is None:
                        batch.add_copy(start, pixels, originals[pixels])
                    else:
                        batch.add(start, pixels, tokens)
                        originals[pixels] = start
                    done += 1
                    if len(batch) == CLIPS_PER_WRITE:
                        writer.submit(self._store, batch)
                        batch = ClipBatch()
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
        batch = ClipBatch()
        originals = self._clip_cache.by_pixel_hash() if len(tokens) < len(clips) else {}
        # Twice, if the cache has lost the original of a repeated clip.
        while missing := [i for i in range(len(clips)) if i not in tokens]:
            for number, pixels, clip_tokens in self._new_tokens(
                [clips[i] for i in missing], originals
            ):
                index = missing[number]
                tokens[index] = clip_tokens
                if index in consecutive:
                    batch.add(consecutive[index], pixels, clip_tokens)
            originals = {}
        if batch:
            self._store(batch)
        return np.stack([tokens[i] for i in range(len(clips))])

    def _new_tokens(
        self, clips: Sequence[Clip], originals: Mapping[str, int]
    ) -> Iterator[tuple[int, str, np.ndarray]]:
        """Yields number, pixel hash and tokens of clips that the cache does not have.

        Args:
            originals: stored clips by pixel hash; a clip whose original cannot be read is left out.
        """
        known: dict[str, np.ndarray] = {}
        with contextlib.closing(self._encoded(clips, set(originals))) as encoded:
            for number, pixels, tokens in encoded:
                if tokens is None and pixels not in known:
                    original = originals[pixels]
                    tokens = self._clip_cache.read([original]).get(original)
                if tokens is not None:
                    known[pixels] = tokens
                if pixels in known:
                    yield number, pixels, known[pixels]

    def _store(self, batch: ClipBatch) -> None:
        with account.measure("store clips"):
            batch.write(self._clip_cache)

    def _encoded(
        self, clips: Sequence[Clip], known: set[str]
    ) -> Generator[tuple[int, str, np.ndarray | None], None, None]:
        """Yields number, pixel hash and tokens of each clip; None for a clip of known pixels.

        Args:
            known: pixel hashes of stored clips; those of `clips` are added.
        """
        if not clips:
            return
        indices = sorted({index for clip in clips for index in clip})

        def distinct() -> Iterator[tuple[tuple[int, str], np.ndarray | None]]:
            frames = hashed_frames(self.source.frames(indices))
            for number, clip in cut_clips(indices, frames, clips):
                pixels = pixel_hash(clip)
                is_repeated = pixels in known
                known.add(pixels)
                yield (number, pixels), None if is_repeated else np.stack([x for x, _ in clip])

        for (number, pixels), tokens in self.encoder.stream(distinct()):
            if tokens is None:
                account.count("clips repeated", 1)
            yield number, pixels, tokens
