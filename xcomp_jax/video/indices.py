"""Computes frame indices from a frame count and a frame rate. Pure functions.

The original samples in two ways and both are kept (docs/reference_behaviour.md#sampling): inference
(`mm_utils.get_frame_indices`) repeats frames of a video that is too short; training
(`llava/video_utils.py`) rejects such a video.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

READER_CLIP = 8
"""Frames per clip in the original's readers, whatever the model's clip length is."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Sampling density: `fps` frames per second in whole clips, within bounds on the count."""

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
    """Returns the number of frames to sample (original: sample="dynamic_fps1").

    Example: 300 frames at 30 per second and `fps=8` are 10 clips of 8 frames, so 80. The maximum is
    applied after rounding: if it is not a multiple of `clip_frames`, neither is the result.
    """
    clip = sampling.clip_frames
    whole_clips = total // clip * clip
    clips = int(sampling.fps * (total / rate) // clip)
    count = min(clip * max(clips, 1), sampling.max_frames)
    minimum = sampling.min_frames if sampling.min_frames <= total else whole_clips
    return max(minimum, whole_clips if count > total else count)


def fixed_count(total: int, count: int, sampling: Sampling) -> int:
    """Returns `count`, raised to the minimum that `total` frames allow (sample="middle")."""
    return max(count, min(sampling.min_frames, total))


def middle_indices(total: int, count: int) -> tuple[int, ...]:
    """Returns the middles of `count` equal intervals of [0, total).

    Example: (10, 4) gives 0, 3, 5, 8. If `count` exceeds `total`, the last index is repeated.
    """
    borders = np.linspace(0, total, min(count, total) + 1).astype(int)
    middles = [int(a + b - 1) // 2 for a, b in itertools.pairwise(borders)]
    return tuple(middles + middles[-1:] * (count - len(middles)))


def inference_indices(
    total: int, rate: float, sampling: Sampling, *, count: int | None = None
) -> tuple[int, ...]:
    """Samples indices of `total` frames as the original's inference does.

    A video shorter than one clip repeats its frames to fill one clip.

    Args:
        total: frames of the video.
        rate: frames per second of the video.
        sampling: density and bounds.
        count: number of frames; None derives it from the duration and `sampling.fps`.
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
    """Samples indices of `total` frames as the original's training does.

    Differs from `inference_indices` in two cases: a video shorter than one clip gives no index or
    an incomplete clip, and a requested number below the clip length resets that length to 8.
    """
    if (sampling.max_frames if count is None else count) < sampling.clip_frames:
        sampling = dataclasses.replace(sampling, clip_frames=READER_CLIP)
    if count is None:
        return middle_indices(total, dynamic_count(total, rate, sampling))
    return middle_indices(total, fixed_count(total, count, sampling))


def folder_clip_indices(
    num_images: int, rate: float, first: float, last: float, sampling: Sampling
) -> tuple[int, ...]:
    """Samples evenly spaced images from second `first` to `last` of a folder, both included.

    Follows the original's `read_frames_img`, used for TVQA: the count is one frame per second
    whatever `sampling.fps` is, an image may repeat, and the folder's first image is never sampled.
    """
    clip = sampling.clip_frames
    total = int((last - first) * rate)
    minimum = sampling.min_frames if sampling.min_frames <= total else total // clip * clip
    clips = int((last - first) // clip)
    count = max(minimum, min(clip * max(clips, 1), sampling.max_frames))
    end = min(round(last * rate), num_images - 1)
    begin = min(max(1, round(first * rate)), end)
    spacing = (end - begin) / max(count - 1, 1)
    return tuple(begin + round(spacing * i) for i in range(count))


def repeated_to(indices: Sequence[int], minimum: int) -> tuple[int, ...]:
    """Repeats `indices` evenly until there are at least `minimum` (original: `load_video`)."""
    count = len(indices)
    if count >= minimum:
        return tuple(indices)
    return tuple(indices[int(i * count / minimum)] for i in range(minimum))
