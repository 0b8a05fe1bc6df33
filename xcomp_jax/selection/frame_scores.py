"""Averages segment scores into clip and frame scores, and selects frames (pure NumPy)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xcomp_jax.ops.clip_scores import Segments
from xcomp_jax.selection.windows import SCORE_CLIP_FRAMES, Windows, scored_clips

UNCOVERED = 1e9
"""Score of a clip that fewer segments cover than other clips, as in the original."""


def scores_of_clips(by_segment: np.ndarray, segments: Segments) -> np.ndarray:
    """Averages each clip's scores over the segments that cover it.

    Args:
        by_segment: [..., segments.count, segments.size].

    Returns:
        [..., num_clips] float64. Clips covered by fewer than the maximum number of segments (at
        both ends of a window) are UNCOVERED, because their means are not comparable.
    """
    total = np.zeros((*by_segment.shape[:-2], segments.num_clips))
    covered = np.zeros(segments.num_clips, int)
    for number in range(segments.count):
        clips = slice(number * segments.stride, number * segments.stride + segments.size)
        total[..., clips] += by_segment[..., number, :]
        covered[clips] += 1
    mean = total / np.maximum(covered, 1)
    return np.where(scored_clips(segments), mean, UNCOVERED)


@dataclasses.dataclass(frozen=True)
class FrameScores:
    """Scores of all frames of a video.

    total: [F] float64, higher for frames with more attention from the question.
    windows: [F] number of windows averaged.
    """

    total: np.ndarray
    windows: np.ndarray


def scores_of_frames(
    clip_scores: np.ndarray | Sequence[np.ndarray], windows: Windows
) -> FrameScores:
    """Averages clip scores over windows, then sums over layers.

    Args:
        clip_scores: [W, L, clips] of the scored layers; UNCOVERED and NaN entries are ignored.

    Raises:
        ValueError: a frame has no score, because the model's scores are not finite.
    """
    frames_of_clips = np.arange(windows.length) // SCORE_CLIP_FRAMES
    layers = np.shape(clip_scores[0])[0]
    total = np.zeros((layers, windows.num_frames))
    count = np.zeros((layers, windows.num_frames), int)
    for start, scores in zip(windows.starts, clip_scores, strict=True):
        # Frames after the last whole clip have no score in this window.
        in_clip = frames_of_clips < np.shape(scores)[1]
        frames = (start + np.flatnonzero(in_clip)) % windows.num_frames
        values = np.asarray(scores, np.float64)[:, frames_of_clips[in_clip]]
        valid = ~np.isnan(values) & (values < 1000)
        total[:, frames] += np.where(valid, values, 0.0)
        count[:, frames] += valid
    if not count.all():
        frame = int(np.flatnonzero(~count.all(axis=0))[0])
        raise ValueError(
            f"frame {frame} of {windows.num_frames} has no finite score in any of "
            f"{len(windows.starts)} windows; check the checkpoint for non-finite parameters, or "
            "use all frames (selection=None, --select all)"
        )
    mean, summed = total / count, np.zeros(windows.num_frames)
    for layer in mean:  # a fixed order, so that equal frames get exactly equal sums
        summed += layer
    return FrameScores(summed, count[0])


def best_frames(scores: np.ndarray, select: int) -> tuple[int, ...]:
    """Returns the `select` frames with the highest scores [F], ascending.

    Of frames with equal scores, the earlier one is selected.
    """
    return tuple(sorted(np.argsort(-scores, kind="stable")[:select].tolist()))
