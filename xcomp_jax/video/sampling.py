"""Which frames of a video the model sees, and the sentence that tells it so. Pure functions.

Two readings of the original exist and both are kept: inference (`mm_utils` of the published
evaluation package, which repeats frames of a video that is too short) and training
(`video_utils` of the training code, which rejects such a video). Everything is an argument; the
original read rate and bounds from the environment.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo

READER_CLIP = 8
"""Frames per clip in the original's readers, whatever the model's clip length is."""

END_MARGIN = 0.1
"""Seconds kept free at the end of a video when a clip is cut from it (original: load_video)."""


@dataclasses.dataclass(frozen=True)
class FramePlan:
    """The frames to read, in order, and what the prompt says about them.

    `indices` never decrease; a video shorter than the minimum repeats some. `duration` is in
    seconds, of the clip if one was cut. `num_frames` is the count the message states: it stays
    when question-conditioned selection later passes on fewer frames. `times` are the seconds the
    long message quotes: index over rate, as in the original, not the container's time stamps.
    """

    indices: tuple[int, ...]
    duration: float
    num_frames: int
    times: tuple[float, ...] = dataclasses.field(repr=False)

    @property
    def message(self) -> str:
        return time_message(self.duration, self.num_frames)

    @property
    def long_message(self) -> str:
        return long_time_message(self.duration, self.num_frames, self.times)


def time_message(duration: float, num_frames: int) -> str:
    """The sentence after the video; leading newline and trailing space belong to it."""
    return (
        f"\nThe video lasts for {duration:.2f} seconds, "
        f"and {num_frames} frames are uniformly sampled from it. "
    )


def long_time_message(duration: float, num_frames: int, times: Sequence[float]) -> str:
    """The sentence that lists every frame's second, to one decimal (training option)."""
    listed = ", ".join(str(round(time, 1)) for time in times)
    return (
        f"\nThe video lasts for {duration:.2f} seconds, "
        f"and {num_frames} frames are uniformly sampled at {listed} seconds. "
    )


# --- get_frame_indices -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How densely to sample: `fps` frames a second in whole clips, within bounds on the count."""

    fps: float
    min_frames: int
    max_frames: int
    clip_frames: int = READER_CLIP

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ValueError(f"{self.fps=} must be positive")
        if self.clip_frames < 1 or self.max_frames < 1 or self.min_frames < 0:
            raise ValueError(
                f"{self.clip_frames=} and {self.max_frames=} must be at least 1, "
                f"{self.min_frames=} at least 0"
            )


def dynamic_count(total: int, rate: float, sampling: Sampling) -> int:
    """Frames to take from `total` frames at `rate` a second (original: sample="dynamic_fps1").

    300 frames at 30/s and fps=8: 10 s hold 10 clips of 8, so 80. The cap comes after the
    rounding, so a `max_frames` that is no multiple of `clip_frames` gives no multiple either.
    """
    clip = sampling.clip_frames
    whole_clips = total // clip * clip
    clips = int(sampling.fps * (total / rate) // clip)
    count = min(clip * max(clips, 1), sampling.max_frames)
    least = sampling.min_frames if sampling.min_frames <= total else whole_clips
    return max(least, whole_clips if count > total else count)


def fixed_count(total: int, count: int, sampling: Sampling) -> int:
    """`count`, but not below what the minimum asks of `total` frames (sample="middle")."""
    return max(count, min(sampling.min_frames, total))


def middle_indices(total: int, count: int) -> tuple[int, ...]:
    """Middles of `count` equal intervals of [0, total); (10, 4) gives 0, 3, 5, 8.

    More than `total` are filled up with the last index; of none there are none.
    """
    borders = np.linspace(0, total, min(count, total) + 1).astype(int)
    middles = [int(a + b - 1) // 2 for a, b in itertools.pairwise(borders)]
    return tuple(middles + middles[-1:] * (count - len(middles)))


def inference_indices(
    total: int, rate: float, sampling: Sampling, *, count: int | None = None
) -> tuple[int, ...]:
    """Indices into `total` frames (original: mm_utils.get_frame_indices of the evaluation).

    `count` fixes the number; by default it follows from duration and `sampling.fps`. A video
    shorter than one clip repeats its frames to one clip.
    """
    clip = sampling.clip_frames
    if clip > total:
        return tuple(i * total // clip for i in range(clip))
    if count is None:
        return middle_indices(total, dynamic_count(total, rate, sampling))
    return middle_indices(total, fixed_count(total, count, sampling))


def training_indices(
    total: int, rate: float, sampling: Sampling, *, count: int | None = None
) -> tuple[int, ...]:
    """Indices into `total` frames (original: video_utils.get_frame_indices of the training code).

    As `inference_indices`, but a video shorter than one clip may give none, or no whole clip, and
    a number asked for below the clip length turns that length to 8.
    """
    if (sampling.max_frames if count is None else count) < sampling.clip_frames:
        sampling = dataclasses.replace(sampling, clip_frames=READER_CLIP)
    if count is None:
        return middle_indices(total, dynamic_count(total, rate, sampling))
    return middle_indices(total, fixed_count(total, count, sampling))


def repeated_to(indices: Sequence[int], minimum: int) -> tuple[int, ...]:
    """`indices`, spread evenly over at least `minimum` places (original: load_video)."""
    have = len(indices)
    if have >= minimum:
        return tuple(indices)
    return tuple(indices[int(i * have / minimum)] for i in range(minimum))


# --- plans -------------------------------------------------------------------------------------


def plan_frames(
    info: VideoInfo,
    *,
    fps: float,
    min_frames: int,
    max_frames: int,
    clip_frames: int = READER_CLIP,
    start: float | None = None,
    end: float | None = None,
) -> FramePlan:
    """The frames of a video, or of its seconds [start, end], for asking (original: load_video).

    Raises VideoError if the clip lies outside the video.
    """
    sampling = Sampling(fps, min_frames, max_frames, clip_frames)
    chosen, duration = _choose(info, inference_indices, sampling, start, end)
    return _plan(info, repeated_to(chosen, min_frames), duration)


def plan_training_frames(
    info: VideoInfo,
    *,
    fps: float,
    min_frames: int,
    max_frames: int,
    clip_frames: int = READER_CLIP,
    start: float | None = None,
    end: float | None = None,
) -> FramePlan:
    """The frames of a training example (original: process_video); nothing is repeated.

    Raises VideoError where the original rejects the example: not whole clips of frames.
    """
    sampling = Sampling(fps, min_frames, max_frames, clip_frames)
    chosen, duration = _choose(info, training_indices, sampling, start, end)
    if not chosen or len(chosen) % clip_frames:
        raise VideoError(
            info.path,
            f"{len(chosen)} frames were sampled from {duration:.2f} s, "
            f"which are not whole clips of {clip_frames}",
            "Use a longer video, or bounds that are multiples of the clip length.",
        )
    return _plan(info, chosen, duration)


def _plan(info: VideoInfo, indices: tuple[int, ...], duration: float) -> FramePlan:
    return FramePlan(
        indices=indices,
        duration=duration,
        num_frames=len(indices),
        times=tuple(index / info.fps for index in indices),
    )


def _choose(
    info: VideoInfo,
    sample: Callable[[int, float, Sampling], tuple[int, ...]],
    sampling: Sampling,
    start: float | None,
    end: float | None,
) -> tuple[tuple[int, ...], float]:
    """(indices into the video, seconds they are taken from)."""
    if start is None and end is None:
        # A folder counts as one image a second even where its true duration is known: that only
        # reaches the message (original: read_frames_img).
        rate = 1.0 if info.is_folder else info.fps
        return sample(info.num_frames, rate, sampling), info.duration
    for name, seconds in (("start", start), ("end", end)):
        if seconds is not None and not math.isfinite(seconds):
            raise VideoError(info.path, f"{name}={seconds} is no number of seconds", "Give one.")
    first = max(0.0, 0.0 if start is None else start)
    last = info.duration if info.is_folder else info.duration - END_MARGIN
    last = last if end is None else min(last, end)
    duration = last - first
    total = int(duration * info.fps)
    if total < 1:
        raise VideoError(
            info.path,
            f"the clip from {start} s to {end} s holds no frame of a video of "
            f"{info.duration:.2f} s",
            "Give start < end, both in seconds within the video.",
        )
    if info.is_folder:
        return _folder_clip(info, first, last, sampling), duration
    offset = int(first * info.fps)
    return tuple(offset + index for index in sample(total, info.fps, sampling)), duration


def _folder_clip(info: VideoInfo, first: float, last: float, sampling: Sampling) -> tuple[int, ...]:
    """Evenly spaced images from second `first` to `last`, both included.

    Original: read_frames_img, used for TVQA. The count is one frame a second whatever `fps` asks
    for, an image may repeat, and the first image of the folder is never taken.
    """
    clip = sampling.clip_frames
    total = int((last - first) * info.fps)
    least = sampling.min_frames if sampling.min_frames <= total else total // clip * clip
    clips = int((last - first) // clip)
    count = max(least, min(clip * max(clips, 1), sampling.max_frames))
    end = min(round(last * info.fps), info.num_frames - 1)
    begin = min(max(1, round(first * info.fps)), end)
    spacing = (end - begin) / max(count - 1, 1)
    return tuple(begin + round(spacing * i) for i in range(count))
