"""Creates thumbnails of selected frames, spread over the video."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from xcomp_jax.evidence.record import Thumbnail
from xcomp_jax.video.decode import Frame, read_frames
from xcomp_jax.video.preprocess import to_rgb
from xcomp_jax.video.probe import VideoInfo

LIMIT = 48
WIDTH = 240
"""Pixels; sharp in two columns on a phone, about 10 kB per thumbnail."""

QUALITY = 78


def make_thumbnails(
    video: str | Path | VideoInfo,
    frames: Sequence[int],
    times: Sequence[float],
    selected_frames: Sequence[int],
    scores: Sequence[float] | None = None,
    *,
    limit: int = LIMIT,
    width: int = WIDTH,
) -> tuple[Thumbnail, ...]:
    """Decodes at most `limit` of the selected frames and scales them down.

    Args:
        video: path of the video, or the result of `probe`.
        frames: [N] numbers of the sampled frames in the video (`FramePlan.indices`).
        times: [N] seconds of the sampled frames (`FramePlan.times`).
        selected_frames: ascending indices into the N frames.
        scores: [N] or None.
        limit: maximum number of thumbnails; see `spread`.
        width: pixels; keeps the aspect ratio and never enlarges.

    Raises:
        VideoError: the video can no longer be read.
    """
    shown = spread(selected_frames, times, scores, limit=limit)
    # Damage is limited where the answer's frames are read.
    images = read_frames(video, [frames[index] for index in shown], max_damaged=1.0)
    return tuple(
        encode_thumbnail(index, image, width=width)
        for index, image in zip(shown, images, strict=True)
    )


def encode_thumbnail(index: int, frame: Frame, *, width: int = WIDTH) -> Thumbnail:
    """Encodes a frame, uint8 [H, W, 3], as a thumbnail of at most `width` x 2 `width` pixels."""
    image = Image.fromarray(np.ascontiguousarray(to_rgb(frame)))
    image.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(index, file.getvalue())


def spread(
    selected_frames: Sequence[int],
    times: Sequence[float],
    scores: Sequence[float] | None = None,
    *,
    limit: int = LIMIT,
) -> list[int]:
    """Returns at most `limit` of the selected frames, ascending: the best of equal intervals.

    The intervals are as short as `limit` allows, because frames selected in bursts leave many of
    them empty. The best frame of an interval has the highest score, the first one if several do;
    a missing score ranks lowest.
    """
    if limit < 1:
        raise ValueError(f"{limit=} must be at least 1")
    if len(selected_frames) <= limit:
        return list(selected_frames)
    moments = len({times[index] for index in selected_frames})
    count, best = limit, _best_of_intervals(selected_frames, times, scores, limit)
    while len(best) < moments:
        count += max(1, count // 4)
        finer = _best_of_intervals(selected_frames, times, scores, count)
        if len(finer) > limit:
            break
        best = finer
    return best


def _best_of_intervals(
    selected_frames: Sequence[int],
    times: Sequence[float],
    scores: Sequence[float] | None,
    count: int,
) -> list[int]:
    begin = times[selected_frames[0]]
    span = times[selected_frames[-1]] - begin
    best: dict[int, int] = {}
    for index in selected_frames:
        interval = int(count * (times[index] - begin) / span) if span > 0 else 0
        interval = min(interval, count - 1)  # The last frame lies on the end of the last interval.
        if interval not in best or _value(scores, index) > _value(scores, best[interval]):
            best[interval] = index
    return list(best.values())


def _value(scores: Sequence[float] | None, index: int) -> float:
    return -math.inf if scores is None or not math.isfinite(scores[index]) else scores[index]
