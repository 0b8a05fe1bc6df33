"""One image or video of a mixture: what it holds, which frames are seen, and their pixels.

The rules are those of the original's training code (facts: frame sampling, preprocessing):

    video   a file, by its own clock
    img     a folder of frames, one a second (three for TVQA) unless a file beside it says how long
            it lasts
    gif     every frame counts as one second, whatever the file says; it cannot be cut
    image   one frame, and no sentence about time

One difference: the original cuts video files at start and end only where they come from its object
store, and rejects local ones; here they are cut as its file reader cuts.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from xcomp_jax.config import SamplingConfig
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError
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
"""Values of `video_read_type`; one reader serves all that the original has for video files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Media:
    """Where to look: `path` below the mixture's root, of `kind`, between `start` and `end` s."""

    path: str
    kind: Kind
    start: float | None = None
    end: float | None = None


def probe_media(media: Media, root: Path) -> VideoInfo:
    """What there is to sample from. A video is not decoded, an image is.

    Raises:
        VideoError: it is missing or cannot be read.
    """
    path = root / media.path
    if media.kind == "image":
        read_image(path)
        return VideoInfo(path=path, num_frames=1, fps=1.0, duration=1.0, times=(0.0,))
    info = probe(path, folder_fps=3.0 if "tvqa" in str(path).lower() else 1.0, threads=1)
    if info.is_folder != (media.kind == "img"):
        have, want = ("folder", "file") if info.is_folder else ("file", "folder of images")
        raise VideoError(
            path,
            f"is a {have}, but its set is read as {media.kind}, which needs a {want}",
            "Mend video_read_type or data_root of the set.",
        )
    if media.kind == "gif":
        return dataclasses.replace(info, fps=1.0, duration=float(info.num_frames))
    return info


def plan_media(
    media: Media, info: VideoInfo, *, sampling: SamplingConfig, clip_frames: int
) -> FramePlan:
    """The frames a training example holds; needs no file.

    Raises:
        VideoError: too short, by the original's training rule: no whole clips can be sampled.
    """
    if media.kind == "image":
        return FramePlan(indices=(0,), duration=0.0, num_frames=1, times=(0.0,))
    if media.kind == "gif" and media.start is not None:
        raise VideoError(info.path, "a gif cannot be cut", "Remove start and end of its entry.")
    return plan_training_frames(
        info,
        fps=sampling.fps,
        min_frames=sampling.min_frames,
        max_frames=sampling.max_frames,
        clip_frames=clip_frames,
        start=media.start,
        end=media.end,
    )


def time_message(media: Media, plan: FramePlan) -> str:
    """The sentence that follows the picture in the prompt; none for an image."""
    return "" if media.kind == "image" else plan.message


def read_pixels(media: Media, root: Path, plan: FramePlan, size: int) -> np.ndarray:
    """The frames of `plan`, uint8 [F, size, size, 3], whole frames resized by the bicubic rule.

    Raises:
        VideoError: they cannot be read.
    """
    path = root / media.path
    if media.kind == "image":
        return resize_bicubic(read_image(path), size)[None]
    # Filled in place: a list of frames beside their stack would be twice the memory.
    frames = np.empty((len(plan.indices), size, size, 3), np.uint8)
    for place, frame in enumerate(read_frames(path, plan.indices, size=size, threads=1)):
        frames[place] = frame
    return frames


def read_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 3], as stored: unlike in folders of frames no rotation is applied (original)."""
    place = image_path(path)
    try:
        with Image.open(place) as image:
            return np.asarray(image.convert("RGB"))
    # Pillow's PNG reader raises SyntaxError on a broken header.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(place, f"not a readable image ({error})", ffmpeg.COPY_AGAIN) from error


def image_path(path: Path) -> Path:
    """`path`, or the .jpg beside a .png that is not there: public sets have such names.

    Raises:
        VideoError: there is neither.
    """
    jpeg = path.with_suffix(".jpg")
    if path.suffix == ".png" and not path.exists() and jpeg.exists():
        return jpeg
    return ffmpeg.regular_file(ffmpeg.local_path(path))
