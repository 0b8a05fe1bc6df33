"""What the model sees of one video: sampled, resized frames and the sentence about them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from xcomp_jax.config import SamplingConfig
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.probe import probe
from xcomp_jax.video.sampling import plan_frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledVideo:
    """Frames uint8 [F, S, S, 3], `duration` in seconds, the time message of the prompt."""

    frames: np.ndarray
    duration: float
    time_message: str


def read_sampled_video(
    path: Path, *, sampling: SamplingConfig, image_size: int, clip_frames: int
) -> SampledVideo:
    """Decodes the sampled frames of one video, resized whole to `image_size` by the bicubic rule.

    Raises:
        VideoError: the video cannot be read.
    """
    info = probe(path, threads=1)
    plan = plan_frames(
        info,
        fps=sampling.fps,
        min_frames=sampling.min_frames,
        max_frames=sampling.max_frames,
        clip_frames=clip_frames,
    )
    frames = np.empty((len(plan.indices), image_size, image_size, 3), np.uint8)
    # Filled in place: a list of frames beside their stack would be twice the memory.
    for place, frame in enumerate(read_frames(path, plan.indices, size=image_size, threads=1)):
        frames[place] = frame
    return SampledVideo(frames=frames, duration=plan.duration, time_message=plan.message)
