"""Plans the frames of a video that the model sees, and the sentence that describes them. Pure.

`plan_frames` follows the original's inference and `plan_training_frames` its training
(docs/reference_behaviour.md#sampling). Where the original reads rates and bounds from environment
variables, these functions take arguments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from xcomp_jax.config.video import CutBy
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.indices import (
    READER_CLIP,
    Sampling,
    folder_clip_indices,
    inference_indices,
    repeated_to,
    training_indices,
)
from xcomp_jax.video.messages import long_time_message, time_message
from xcomp_jax.video.probe import VideoInfo

END_MARGIN = 0.1
"""Seconds at the end of a video that a clip never includes (original: `load_video`)."""


@dataclasses.dataclass(frozen=True)
class FramePlan:
    """Frames to read, in order, and the numbers that the prompt states about them.

    Attributes:
        indices: frame numbers, never decreasing; a video below the minimum repeats some.
        duration: seconds of the video, or of the clip if `start` or `end` was passed.
        num_frames: count that the message states. Question-conditioned selection does not change
            it, although the model then sees fewer frames.
        times: seconds of the frames by the video's time stamps.
        mean_rate_times: seconds by the average frame rate (index / rate), which the original's long
            message states; empty if they are `times`.
    """

    indices: tuple[int, ...]
    duration: float
    num_frames: int
    times: tuple[float, ...] = dataclasses.field(repr=False)
    mean_rate_times: tuple[float, ...] = dataclasses.field(default=(), repr=False)

    @property
    def message(self) -> str:
        return time_message(self.duration, self.num_frames)

    @property
    def long_message(self) -> str:
        times = self.mean_rate_times or self.times
        return long_time_message(self.duration, self.num_frames, times)


def plan_frames(
    info: VideoInfo,
    *,
    fps: float,
    min_frames: int,
    max_frames: int,
    clip_frames: int = READER_CLIP,
    start: float | None = None,
    end: float | None = None,
    cut_by: CutBy = "time_stamps",
) -> FramePlan:
    """Plans the frames for inference (original: `load_video`).

    Args:
        info: the probed video.
        fps: frames per second to sample.
        min_frames: lower bound; a shorter video repeats frames.
        max_frames: upper bound.
        clip_frames: frames per encoder clip; counts are rounded to it.
        start, end: seconds of the clip to sample; None for the whole video.
        cut_by: clock of `start` and `end`; see `SamplingConfig`.

    Raises:
        VideoError: the clip [start, end] lies outside the video.
    """
    sampling = Sampling(fps, min_frames, max_frames, clip_frames)
    indices, duration = _sample(info, inference_indices, sampling, start, end, cut_by)
    return _plan(info, repeated_to(indices, min_frames), duration)


def plan_training_frames(
    info: VideoInfo,
    *,
    fps: float,
    min_frames: int,
    max_frames: int,
    clip_frames: int = READER_CLIP,
    start: float | None = None,
    end: float | None = None,
    cut_by: CutBy = "time_stamps",
) -> FramePlan:
    """Plans the frames of a training sample (original: `process_video`); repeats none.

    Arguments as in `plan_frames`.

    Raises:
        VideoError: as `plan_frames`, and where the original rejects the sample: the frames do not
            fill whole clips.
    """
    sampling = Sampling(fps, min_frames, max_frames, clip_frames)
    indices, duration = _sample(info, training_indices, sampling, start, end, cut_by)
    if not indices or len(indices) % clip_frames:
        raise VideoError(
            info.path,
            f"{len(indices)} frames were sampled from {duration:.2f} s, "
            f"which are not whole clips of {clip_frames}",
            "Use a longer video, or bounds that are multiples of the clip length.",
        )
    return _plan(info, indices, duration)


def _plan(info: VideoInfo, indices: tuple[int, ...], duration: float) -> FramePlan:
    mean_rate_times = tuple(index / info.fps for index in indices)
    if not len(info.times):
        return FramePlan(indices, duration, len(indices), mean_rate_times)
    times = tuple(np.asarray(info.times)[list(indices)].tolist())
    return FramePlan(indices, duration, len(indices), times, mean_rate_times)


def _sample(
    info: VideoInfo,
    sample: Callable[[int, float, Sampling], tuple[int, ...]],
    sampling: Sampling,
    start: float | None,
    end: float | None,
    cut_by: CutBy,
) -> tuple[tuple[int, ...], float]:
    """Returns (frame indices, seconds that they cover)."""
    if start is None and end is None:
        # The original samples a folder at one image per second even if its duration is known; the
        # duration only reaches the message (`read_frames_img`).
        rate = 1.0 if info.is_folder else info.fps
        return sample(info.num_frames, rate, sampling), info.duration
    first, last = _clip_bounds(info, start, end)
    duration = last - first
    offset, total = _clip_frames(info, first, last, cut_by)
    if total < 1:
        raise VideoError(
            info.path,
            f"the part from {start or 0:g} s to {'its end' if end is None else f'{end:g} s'} "
            f"holds no frame of a video of {info.duration:.2f} s",
            "Use start < end, both in seconds within the video.",
        )
    if info.is_folder:
        return folder_clip_indices(info.num_frames, info.fps, first, last, sampling), duration
    rate = total / duration if info.is_uneven and cut_by == "time_stamps" else info.fps
    return tuple(offset + index for index in sample(total, rate, sampling)), duration


def _clip_frames(info: VideoInfo, first: float, last: float, cut_by: CutBy) -> tuple[int, int]:
    """Returns (first frame, number of frames) of the clip from second `first` to `last`."""
    if last <= first:
        return 0, 0
    if not info.is_uneven or cut_by == "mean_rate":  # Original: `load_video`.
        return int(first * info.fps), int((last - first) * info.fps)
    # From the frame that is shown at `first`, as the line above has it for evenly spaced frames.
    offset = int(np.searchsorted(info.times, first, "right")) - 1
    return offset, int(np.searchsorted(info.times, last, "left")) - offset


def _clip_bounds(info: VideoInfo, start: float | None, end: float | None) -> tuple[float, float]:
    """Returns first and last second of the clip, cut to the video."""
    for name, seconds in (("start", start), ("end", end)):
        if seconds is not None and not math.isfinite(seconds):
            raise VideoError(
                info.path, f"{name}={seconds} is not finite", "Pass a number of seconds."
            )
    first = max(0.0, 0.0 if start is None else start)
    last = info.duration if info.is_folder else info.duration - END_MARGIN
    return first, last if end is None else min(last, end)
