"""Small pictures of chosen frames, spread over the video."""

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

LIMIT = 48
WIDTH = 240
"""Pixels: sharp enough in two columns on a phone, some 10 kB each."""

QUALITY = 78


def make_thumbnails(
    video: str | Path,
    frames: Sequence[int],
    times: Sequence[float],
    selected_frames: Sequence[int],
    scores: Sequence[float] | None = None,
    *,
    limit: int = LIMIT,
    width: int = WIDTH,
) -> tuple[Thumbnail, ...]:
    """Decodes chosen frames again, only those that are kept, and makes thumbnails of them.

    Args:
        frames: [N] numbers in the video of the N frames looked at (`FramePlan.indices`).
        times: [N] their seconds (`FramePlan.times`).
        chosen: ascending indices into the N frames.
        scores: [N] or None.
        limit: of more chosen frames, those stay that `spread` picks.
        width: pixels; the shape of the video is kept, a smaller video stays as it is.

    Raises:
        VideoError: the video cannot be read any more.
    """
    kept = spread(selected_frames, times, scores, limit=limit)
    pictures = read_frames(video, [frames[index] for index in kept])
    return tuple(
        encode_thumbnail(index, picture, width=width)
        for index, picture in zip(kept, pictures, strict=True)
    )


def encode_thumbnail(index: int, frame: Frame, *, width: int = WIDTH) -> Thumbnail:
    """Thumbnail of frame `index` from its pixels, uint8 [H, W, 3]; no higher than 2 `width`."""
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
    """At most `limit` of the chosen frames, ascending: the best of equal stretches of time.

    The stretches are as short as `limit` allows, since frames chosen in bursts leave many empty.
    The best is the highest scored one, of equals the first; a missing score is the lowest.
    """
    if limit < 1:
        raise ValueError(f"{limit=}: at least one thumbnail has to be allowed")
    if len(selected_frames) <= limit:
        return list(selected_frames)
    moments = len({times[index] for index in selected_frames})
    count, kept = limit, _best_of_stretches(selected_frames, times, scores, limit)
    while len(kept) < moments:
        count += max(1, count // 4)
        more = _best_of_stretches(selected_frames, times, scores, count)
        if len(more) > limit:
            break
        kept = more
    return kept


def _best_of_stretches(
    selected_frames: Sequence[int],
    times: Sequence[float],
    scores: Sequence[float] | None,
    count: int,
) -> list[int]:
    begin = times[selected_frames[0]]
    span = times[selected_frames[-1]] - begin
    best: dict[int, int] = {}
    for index in selected_frames:
        place = int(count * (times[index] - begin) / span) if span > 0 else 0
        place = min(place, count - 1)  # The last frame lies on the end of the last stretch.
        if place not in best or _value(scores, index) > _value(scores, best[place]):
            best[place] = index
    return list(best.values())


def _value(scores: Sequence[float] | None, index: int) -> float:
    return -math.inf if scores is None or not math.isfinite(scores[index]) else scores[index]
