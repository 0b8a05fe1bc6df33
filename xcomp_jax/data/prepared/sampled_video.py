"""Decodes videos into sampled, resized frames with their time messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from xcomp_jax.config import SamplingConfig
from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import probe
from xcomp_jax.video.sampling import plan_frames

MAX_WAITING_BYTES = 4 << 30
"""Upper limit on decoded videos held in memory; larger videos are decoded by fewer threads."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoView:
    """Settings that determine the frames taken from a video.

    image_size: side S in pixels to which frames are resized (bicubic, no crop).
    clip_frames: the vision encoder's clip length; frame counts are multiples of it.
    """

    sampling: SamplingConfig
    image_size: int
    clip_frames: int

    @property
    def max_video_bytes(self) -> int:
        """Bytes of the frames of a longest video."""
        return self.sampling.max_frames * self.image_size**2 * 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledVideo:
    """One video as model input.

    frames: uint8 [F, X, X, 3].
    duration: in seconds.
    time_message: sentence of the prompt that gives duration and number of frames.
    """

    frames: np.ndarray
    duration: float
    time_message: str


def read_sampled_video(path: Path, view: VideoView) -> SampledVideo:
    """Decodes the sampled frames of one video and resizes them.

    Raises:
        VideoError: the video cannot be read.
    """
    info = probe(path, threads=1)
    plan = plan_frames(
        info,
        fps=view.sampling.fps,
        min_frames=view.sampling.min_frames,
        max_frames=view.sampling.max_frames,
        clip_frames=view.clip_frames,
    )
    size = view.image_size
    frames = np.empty((len(plan.indices), size, size, 3), np.uint8)
    # Filled in place, because stacking a list of frames would need twice the memory.
    max_damaged = view.sampling.max_damaged
    source = read_frames(info, plan.indices, size=size, max_damaged=max_damaged, threads=1)
    for i, frame in enumerate(source):
        frames[i] = frame
    return SampledVideo(frames=frames, duration=plan.duration, time_message=plan.message)


def decode_videos(
    paths: Sequence[Path], view: VideoView, *, label: str, progress: bool = True
) -> Iterator[SampledVideo | VideoError]:
    """Yields every video in order, decoded in threads; an unreadable one yields its error."""

    def read(path: Path) -> SampledVideo | VideoError:
        try:
            return read_sampled_video(path, view)
        except VideoError as error:
            return error

    yield from ProgressBar(
        ordered_map(read, paths, max_workers=MAX_WAITING_BYTES // view.max_video_bytes),
        desc=label,
        total=len(paths),
        unit="video",
        disable=not progress,
    )
