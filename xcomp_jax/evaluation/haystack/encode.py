"""Encodes a haystack once, and every needle image as one clip."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from xcomp_jax.config import SamplingConfig
from xcomp_jax.engine.clips import FileFrames
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.haystack.tokens import HaystackTokens
from xcomp_jax.inference.session import Session
from xcomp_jax.video.normalize import IMAGE_MEAN
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan

LONGEST_ENCODED = 7500
"""A longer haystack is its first half, twice (original: `produce_haystack_embedding.py`)."""


@dataclasses.dataclass(frozen=True)
class Haystack:
    """An encoded haystack; `plan` has its distinct frames."""

    info: VideoInfo
    plan: FramePlan
    tokens: HaystackTokens


def encode_haystack(
    session: Session,
    info: VideoInfo,
    *,
    frames: int,
    progress: Callable[[int, int], None] | None = None,
) -> Haystack:
    """Encodes the first frames of a video; clips in the session's token store are reused.

    Args:
        frames: frames of the longest haystack that is needed, up to `session.sampling.max_frames`.
        progress: called with (clips done, clips in total).

    Raises:
        DataError: the video is too short.
        VideoError: the video cannot be read.
    """
    clip_frames = session.config.vision.clip_frames
    plan = _plan(info, session.sampling, clip_frames)
    encoded = len(plan.indices)
    cache = session.clip_cache(info, plan)
    source = FileFrames(
        info,
        plan.indices,
        session.config.vision.image_size,
        max_damaged=session.sampling.max_damaged,
    )
    clips = session.clips_of(source, cache, encoded)
    clips.prepare(range(0, min(frames, encoded), clip_frames), progress=progress)
    return Haystack(info, plan, HaystackTokens(cache, encoded, clip_frames))


def distinct_frames(max_frames: int, clip_frames: int) -> int:
    """Returns the frames that are encoded for haystacks of up to `max_frames`, in whole clips."""
    frames = max_frames // 2 if max_frames > LONGEST_ENCODED else max_frames
    return -(-frames // clip_frames) * clip_frames


def _plan(info: VideoInfo, sampling: SamplingConfig, clip_frames: int) -> FramePlan:
    """Plans frame 0 of every second, where the original's rate is a whole number of frames."""
    step = max(1, round(info.fps / sampling.fps))
    count = distinct_frames(sampling.max_frames, clip_frames)
    available = -(-info.num_frames // step)
    if available < count:
        usable = min(available // clip_frames * clip_frames, LONGEST_ENCODED)
        raise DataError(
            f"{info.path} has {available:,} frames at {sampling.fps} per second, and the haystack "
            f"needs {count:,}; use a longer video, or --frames {usable}"
        )
    indices = tuple(range(0, count * step, step))
    times = tuple(index / info.fps for index in indices)
    return FramePlan(indices, count / sampling.fps, count, times)


class NeedleEncoder:
    """Encodes needle images; the most recent ones are kept.

    Args:
        folder: the benchmark's data folder.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self._session, self._folder = session, folder
        self.tokens = functools.lru_cache(maxsize=64)(self._tokens)
        """Returns [T, tokens_per_frame, D] for the name of an image."""

    def _tokens(self, image: str) -> np.ndarray:
        vision = self._session.config.vision
        frame = needle_frame(needle_path(self._folder, image), vision.image_size)
        clip = np.repeat(frame[None], vision.clip_frames, axis=0)
        (tokens,) = self._session.engine.encoder.encode(clip[None])
        return tokens.reshape(vision.clip_frames, -1, tokens.shape[-1])


def needle_path(folder: Path, image: str) -> Path:
    """Returns the path of a needle image.

    Raises:
        DataError: it is missing.
    """
    for place in (folder / image, folder / "images" / image, folder / Path(image).name):
        if place.is_file():
            return place
    raise DataError(f"needle image {image} is missing; looked in {folder} and {folder / 'images'}")


def needle_frame(path: Path, size: int) -> np.ndarray:
    """Reads an image, pads it to a square with the mean color, as the original, and resizes it.

    Returns:
        uint8 [size, size, 3].

    Raises:
        DataError: the file is no image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(f"needle image {path} cannot be read ({error})") from error
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * value) for value in IMAGE_MEAN))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return resize_bicubic(np.asarray(square), size)
