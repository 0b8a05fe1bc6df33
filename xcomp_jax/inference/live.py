"""Encodes a video that grows frame by frame and can be asked about at any time."""

from __future__ import annotations

import math
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from xcomp_jax.engine.clips import MemoryClipCache
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.video.decode import Frame
from xcomp_jax.video.sampling import FramePlan


class FrameSpool:
    """Keeps frames on disk to bound memory; selected frames are encoded again."""

    def __init__(self, size: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, lives as long as the spool
        weakref.finalize(self, self._file.close)
        self._shape = (size, size, 3)
        self._bytes = size * size * 3
        self._lock = threading.Lock()
        self.count = 0

    def append(self, frame: Frame) -> None:
        """Adds one frame, uint8 [X, X, 3]."""
        with self._lock:
            self._file.seek(self.count * self._bytes)
            self._file.write(np.ascontiguousarray(frame).tobytes())
            self.count += 1

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yields frames by index, in the order of `indices`."""
        for index in indices:
            with self._lock:
                self._file.seek(index * self._bytes)
                data = self._file.read(self._bytes)
            yield np.frombuffer(data, np.uint8).reshape(self._shape)


class GrowingClipCache:
    """Caches clips of a growing video that has `num_frames` frames now.

    Clips inside the video are kept; clips that wrap around its end are valid only for this length.
    """

    def __init__(self, permanent: MemoryClipCache, num_frames: int, clip_frames: int) -> None:
        self._permanent, self._temporary = permanent, MemoryClipCache()
        self._last = num_frames - clip_frames

    def _of(self, start: int) -> MemoryClipCache:
        return self._permanent if start <= self._last else self._temporary

    def missing(self, starts: Iterable[int]) -> list[int]:
        return [start for start in starts if self._of(start).missing([start])]

    def read(self, starts: Iterable[int]) -> dict[int, np.ndarray]:
        return {s: clip for start in starts for s, clip in self._of(start).read([start]).items()}

    def write(
        self, clips: Mapping[int, np.ndarray], pixel_hashes: Mapping[int, str] | None = None
    ) -> None:
        for start, clip in clips.items():
            hashes = None if pixel_hashes is None else {start: pixel_hashes[start]}
            self._of(start).write({start: clip}, hashes)

    def by_pixel_hash(self) -> dict[str, int]:
        permanent = self._permanent.by_pixel_hash()
        # A frame pushed since this cache was created may have completed a later clip.
        usable = {value: start for value, start in permanent.items() if start <= self._last}
        return {**self._temporary.by_pixel_hash(), **usable}


class LiveVideo:
    """Encodes a video that grows frame by frame.

    Every clip is encoded once it is complete. `encoded` returns the video so far, equal to the
    result of `Session.encode_frames` for the same frames.

    Args:
        fps: pushed frames per second; times and the prompt's duration follow from it.
        name: display name.
    """

    def __init__(self, session: Session, *, fps: float, name: str = "live") -> None:
        if not 0 < fps < math.inf:
            raise ValueError(
                f"{fps=} is not positive and finite; pass the number of frames pushed per second"
            )
        self.session, self.fps, self.name = session, fps, name
        self._spool = FrameSpool(session.config.vision.image_size)
        self._clip_cache = MemoryClipCache()
        self._encoding = threading.Lock()

    @property
    def num_frames(self) -> int:
        """Number of frames pushed so far."""
        return self._spool.count

    def push(self, frame: Frame) -> None:
        """Adds the next frame, uint8 [X, X, 3] of the model's image size.

        Raises:
            TypeError: the frame is not an array.
            ValueError: the frame has another shape or dtype.
        """
        if not isinstance(frame, np.ndarray):
            raise TypeError(f"the frame is of type {type(frame).__name__}; pass a NumPy array")
        size = self.session.config.vision.image_size
        if frame.shape != (size, size, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"the frame is {frame.dtype} {list(frame.shape)}, the model takes uint8 "
                f"[{size}, {size}, 3]; resize it with video.preprocess.resize_bicubic"
            )
        self._spool.append(frame)
        count, clip = self.num_frames, self.session.config.vision.clip_frames
        if count % clip == 0:
            with self._encoding:
                clips = self.session.clips_of(self._spool, self._clip_cache, count)
                clips.prepare([count - clip])

    def encoded(self) -> EncodedVideo:
        """Returns the video so far, in whole clips.

        Raises:
            ValueError: no clip is complete.
        """
        clip = self.session.config.vision.clip_frames
        count = self.num_frames // clip * clip
        if count == 0:
            raise ValueError(
                f"{self.num_frames} frames were pushed but a clip has {clip}; push more first"
            )
        plan = FramePlan(
            indices=tuple(range(count)),
            duration=count / self.fps,
            num_frames=count,
            times=tuple(i / self.fps for i in range(count)),
        )
        with self._encoding:
            return self.session.encode_frames(
                self._spool,
                plan,
                name=self.name,
                clip_cache=GrowingClipCache(self._clip_cache, count, clip),
            )
