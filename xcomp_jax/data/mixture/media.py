"""Reads one image or video of a mixture: its properties, sampled frames and pixels.

Follows the original's training code (docs/reference_behaviour.md#sampling and #preprocessing):

    video   a file, timed by its own clock
    img     a folder of frames, one per second (three for TVQA) unless a JSON file next to the
            folder gives the duration
    gif     every frame counts as one second; cannot be cut
    image   one frame, without a time message

One departure: the original cuts video files at start and end only when they come from its object
store, and rejects local files with a cut; here local files are cut as its file reader cuts.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from xcomp_jax.config import SamplingConfig
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.decode import MAX_DAMAGED, read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.images import read_rgb
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import FramePlan, plan_training_frames

Kind = Literal["video", "img", "gif", "image"]

READERS: dict[str, Kind] = {
    "video": "video",
    "decord": "video",
    "av": "video",
    "lazy": "video",
    "img": "img",
    "frame": "img",
    "gif": "gif",
}
"""Values of `video_read_type`; one reader replaces the original's several for video files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Media:
    """An image or video: `path` below the mixture's root, cut to [start, end] seconds if given."""

    path: str
    kind: Kind
    start: float | None = None
    end: float | None = None


def probe_media(media: Media, root: Path) -> VideoInfo:
    """Returns frame count, rate and duration; decodes images, but not videos.

    Raises:
        VideoError: the file is missing or cannot be read.
    """
    path = root / media.path
    if media.kind == "image":
        read_image(path)
        return VideoInfo(path=path, num_frames=1, fps=1.0, duration=1.0, times=np.zeros(1))
    info = probe(path, folder_fps=3.0 if "tvqa" in str(path).lower() else 1.0, threads=1)
    if info.is_folder != (media.kind == "img"):
        actual, required = ("folder", "file") if info.is_folder else ("file", "folder of images")
        raise VideoError(
            path,
            f"is a {actual}, but its set is read as {media.kind}, which needs a {required}",
            "Correct video_read_type or data_root of the set.",
        )
    if media.kind == "gif":
        return dataclasses.replace(info, fps=1.0, duration=float(info.num_frames))
    return info


def plan_media(
    media: Media, info: VideoInfo, root: Path, *, sampling: SamplingConfig, clip_frames: int
) -> FramePlan:
    """Plans the frames of a training example from `info`.

    Only a cut of unevenly spaced frames by their times opens the file, if `info` has no times.

    Raises:
        VideoError: the video is too short to sample whole clips (the original's training rule), or
            a gif is cut.
    """
    if media.kind == "image":
        return FramePlan(indices=(0,), duration=0.0, num_frames=1, times=(0.0,))
    if media.kind == "gif" and media.start is not None:
        raise VideoError(info.path, "a gif cannot be cut", "Remove start and end of its entry.")
    if needs_times(media, info, sampling):
        info = probe_media(media, root)
    return plan_training_frames(
        info,
        fps=sampling.fps,
        min_frames=sampling.min_frames,
        max_frames=sampling.max_frames,
        clip_frames=clip_frames,
        start=media.start,
        end=media.end,
        cut_by=sampling.cut_by,
    )


def needs_times(media: Media, info: VideoInfo, sampling: SamplingConfig) -> bool:
    """Returns True if the times of the frames determine a cut and `info` lacks them."""
    is_cut = media.start is not None or media.end is not None
    by_times = info.is_uneven and sampling.cut_by == "time_stamps"
    return is_cut and by_times and not len(info.times)


def time_message(media: Media, plan: FramePlan) -> str:
    """Returns the prompt's sentence about duration and frames; empty for an image."""
    return "" if media.kind == "image" else plan.message


def read_pixels(
    media: Media,
    root: Path,
    plan: FramePlan,
    size: int,
    *,
    max_damaged: float = MAX_DAMAGED,
) -> np.ndarray:
    """Reads the frames of `plan`, uint8 [F, size, size, 3], resized (bicubic, no crop).

    Raises:
        VideoError: they cannot be read, or more than the share `max_damaged` is damaged.
    """
    path = root / media.path
    if media.kind == "image":
        return resize_bicubic(read_image(path), size)[None]
    # Filled in place, because stacking a list of frames would need twice the memory.
    frames = np.empty((len(plan.indices), size, size, 3), np.uint8)
    source = read_frames(path, plan.indices, size=size, max_damaged=max_damaged, threads=1)
    for i, frame in enumerate(source):
        frames[i] = frame
    return frames


def read_image(path: Path) -> np.ndarray:
    """Reads an image as uint8 [H, W, 3]; ignores its EXIF rotation, as the original does.

    Raises:
        VideoError: the image is missing or cannot be read.
    """
    return read_rgb(image_path(path), rotate=False, advice=ffmpeg.COPY_AGAIN)


def image_path(path: Path) -> Path:
    """Returns `path`, or the .jpg with the name of a missing .png, as in public datasets.

    Raises:
        VideoError: neither exists.
    """
    jpeg = path.with_suffix(".jpg")
    if path.suffix == ".png" and not path.exists() and jpeg.exists():
        return jpeg
    return ffmpeg.regular_file(ffmpeg.local_path(path))
