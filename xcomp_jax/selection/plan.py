"""QC-Comp: which frames a question needs (paper 3.3; facts: QC-Comp, scores and selection).

A long video is looked at in windows, several times over with shifted windows, so that every frame
meets several clips and neighbours. Within a window, clips are scored by how much the question looks
at them inside short segments (`ops.clip_scores`). Planning and counting are pure functions of
numbers; no model is needed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xcomp_jax.compression.schedule import LayerGroup, RankedDrop
from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.ops.clip_scores import Segments

SCORE_CLIP_FRAMES = 8
"""Frames that share one score, whatever the encoder's clips are."""

UNCOVERED = 1e9
"""Stands for the score of a clip that fewer segments cover than others do."""

HOUR = 3600.0
SELECT_BELOW_AN_HOUR, SELECT_FROM_AN_HOUR = 512, 2048


def frames_to_select(config: SelectionConfig, *, num_frames: int, duration: float) -> int | None:
    """How many of a video's frames to keep, or None to keep them all.

    Without `config.select` the paper's rule: 512 below an hour, 2,048 from there on. A video with
    no more frames than that, or with fewer than `config.min_frames`, is kept whole.

    Args:
        duration: seconds.
    """
    select = config.select
    if select is None:
        select = SELECT_BELOW_AN_HOUR if duration < HOUR else SELECT_FROM_AN_HOUR
    return None if num_frames <= select or num_frames < config.min_frames else select


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows over a video of `num_frames` frames: window w holds frames (starts[w] + i) modulo
    num_frames for i below `length`, so a window may join the video's end to its beginning."""

    num_frames: int
    length: int
    starts: tuple[int, ...]

    @property
    def num_clips(self) -> int:
        """Score clips of one window."""
        return self.length // SCORE_CLIP_FRAMES

    def clip_starts(self, window: int, clip_frames: int) -> tuple[int, ...]:
        """First frames of the encoder's clips in one window."""
        first = self.starts[window]
        return tuple((first + i) % self.num_frames for i in range(0, self.length, clip_frames))


def plan_windows(config: SelectionConfig, num_frames: int) -> Windows:
    """Where the windows lie.

    `config.repeats` rounds cover the video, each shifted against the one before by
    window/repeats + 8/repeats frames: clips are then cut from other frames. With
    `granularity="clip"`, a departure, the shift is rounded down to whole clips instead, so that
    every window consists of the same clips.

    Raises:
        ConfigError: when the video is too short for one segment.
    """
    shift = SCORE_CLIP_FRAMES // config.repeats + config.window_frames // config.repeats
    if config.granularity == "clip":
        shift = shift // SCORE_CLIP_FRAMES * SCORE_CLIP_FRAMES
    margin = 2 * SCORE_CLIP_FRAMES * config.segment_stride if config.scope == "segments" else 0
    step, length = config.window_frames, config.window_frames + margin
    if length > num_frames:
        # The original never scores such short videos. The window is the whole video, turned around
        # as often as it takes for every frame to lie once where most segments overlap.
        clips = covered = num_frames // SCORE_CLIP_FRAMES
        if config.scope == "segments":
            more = max(clips - config.segment_clips, 0) // config.segment_stride
            covered = more * config.segment_stride or config.segment_clips
        step = covered * SCORE_CLIP_FRAMES
        length = num_frames
    rounds = -(-num_frames // step)
    needed = SCORE_CLIP_FRAMES * (config.segment_clips if config.scope == "segments" else 1)
    if length < needed:
        raise ConfigError(
            f"selection.segment_clips={config.segment_clips} clips of {SCORE_CLIP_FRAMES} frames "
            f"need a video of at least {needed} frames, this one has {num_frames}; "
            "ask without selection, or take shorter segments"
        )
    starts = tuple(
        (i * step + i // rounds * shift) % num_frames for i in range(config.repeats * rounds)
    )
    return Windows(num_frames, length, starts)


def plan_segments(config: SelectionConfig, *, num_clips: int, visual_tokens: int) -> Segments:
    """Segments of a window of `num_clips` score clips that has `visual_tokens` tokens at a layer.

    With `scope="global"` there is one, the whole window. Tokens that do not divide among the clips
    are left over at the end.

    Raises:
        ConfigError: when there are fewer clips than a segment needs.
    """
    tokens = visual_tokens // max(num_clips, 1)
    if config.scope == "global":
        return Segments(num_clips, tokens, size=num_clips, stride=num_clips)
    if num_clips < config.segment_clips:
        raise ConfigError(
            f"selection.segment_clips={config.segment_clips} needs windows of at least as many "
            f"clips, got {num_clips}"
        )
    return Segments(num_clips, tokens, size=config.segment_clips, stride=config.segment_stride)


@dataclasses.dataclass(frozen=True)
class WindowLayerGroup:
    """Layers that see the same tokens of a window, the last `left_over` of which belong to no
    clip."""

    stage: LayerGroup
    left_over: int


@dataclasses.dataclass(frozen=True)
class ScoringPlan:
    """How a window is scored, stage by stage: what watching it needs, and what a question adds.

    watched: the decoder's stages up to the last scored layer; segments: of each stage, None where
    no score is wanted; whole_text: keys include the assistant's header.
    """

    watched: tuple[WindowLayerGroup, ...]
    segments: tuple[Segments | None, ...]
    whole_text: bool


def plan_scoring(
    layer_groups: Sequence[LayerGroup],
    config: SelectionConfig,
    *,
    visual_tokens: int,
    tokens_per_frame: int,
) -> ScoringPlan:
    """The decoder's stages up to the last scored layer, cut where scoring begins.

    Args:
        visual_tokens: of a window entering the first layer.

    Raises:
        ConfigError: for a ranked drop by attention, whose tokens depend on the question, for a
            window too short for its segments, and for layers the model has not.
    """
    first, stop = layers_to_score(config, sum(stage.num_layers for stage in layer_groups))
    num_clips = visual_tokens // (SCORE_CLIP_FRAMES * tokens_per_frame)
    watched: list[WindowLayerGroup] = []
    wanted: list[Segments | None] = []
    layer = 0
    for stage in layer_groups:
        if isinstance(stage.drop, RankedDrop):
            raise ConfigError(
                "selection scores the states of a compressed video for any question; "
                "compression.schedule='ranked' has no such states. Use LP-Comp or 'none'"
            )
        visual_tokens = stage.visual_length(visual_tokens)
        segments = plan_segments(config, num_clips=num_clips, visual_tokens=visual_tokens)
        end = min(layer + stage.num_layers, stop)
        middle = min(max(first, layer), end)
        drop = stage.drop
        for count, asked in ((middle - layer, None), (end - middle, segments)):
            if count > 0:
                left_over = visual_tokens - num_clips * segments.clip_tokens
                watched.append(WindowLayerGroup(LayerGroup(count, drop), left_over))
                wanted.append(asked)
                drop = None
        layer = end
    return ScoringPlan(tuple(watched), tuple(wanted), config.scope == "global")


def layers_to_score(config: SelectionConfig, num_layers: int) -> tuple[int, int]:
    """First and one past the last layer whose scores count.

    Raises:
        ConfigError: when the model has fewer layers.
    """
    if config.layers is None:
        published = 28
        return num_layers * 6 // published, max(1, num_layers * 24 // published)
    first, stop = config.layers
    if stop > num_layers:
        raise ConfigError(
            f"selection.layers={config.layers} goes beyond the model's {num_layers} layers"
        )
    return first, stop


def scores_of_clips(by_segment: np.ndarray, segments: Segments) -> np.ndarray:
    """Mean of each clip's scores over the segments that cover it.

    Args:
        by_segment: [..., segments.count, segments.size].

    Returns:
        [..., num_clips] float64. Clips covered by fewer segments than the best covered ones (at
        both ends of a window) are UNCOVERED: their score would mean something else.
    """
    total = np.zeros((*by_segment.shape[:-2], segments.num_clips))
    covered = np.zeros(segments.num_clips, int)
    for number in range(segments.count):
        clips = slice(number * segments.stride, number * segments.stride + segments.size)
        total[..., clips] += by_segment[..., number, :]
        covered[clips] += 1
    mean = total / np.maximum(covered, 1)
    return np.where(covered == covered.max(), mean, UNCOVERED)


@dataclasses.dataclass(frozen=True)
class FrameScores:
    """Scores of all frames of a video: `total` [F] and over how many windows each is a mean."""

    total: np.ndarray
    windows: np.ndarray


def scores_of_frames(
    clip_scores: np.ndarray | Sequence[np.ndarray], windows: Windows
) -> FrameScores:
    """Mean over windows, then sum over layers.

    Args:
        clip_scores: [W, L, clips] of the layers that count; UNCOVERED or NaN entries are left out.

    Raises:
        ValueError: when some frame has no score at all.
    """
    frames_of_clips = np.arange(windows.length) // SCORE_CLIP_FRAMES
    layers = np.shape(clip_scores[0])[0]
    total = np.zeros((layers, windows.num_frames))
    count = np.zeros((layers, windows.num_frames), int)
    for start, scores in zip(windows.starts, clip_scores, strict=True):
        # The last frames of a length that is not a multiple of eight belong to no clip.
        whole = frames_of_clips < np.shape(scores)[1]
        frames = (start + np.flatnonzero(whole)) % windows.num_frames
        values = np.asarray(scores, np.float64)[:, frames_of_clips[whole]]
        valid = ~np.isnan(values) & (values < 1000)
        total[:, frames] += np.where(valid, values, 0.0)
        count[:, frames] += valid
    if not count.all():
        frame = int(np.flatnonzero(~count.all(axis=0))[0])
        raise ValueError(
            f"frame {frame} of {windows.num_frames} got no score from any of "
            f"{len(windows.starts)} windows: the question may have no text after the time message, "
            "or the windows are too short for their segments (selection.window_frames)"
        )
    mean, summed = total / count, np.zeros(windows.num_frames)
    for layer in mean:  # in this order, so that equal frames stay exactly equal
        summed += layer
    return FrameScores(summed, count[0])


def best_frames(scores: np.ndarray, select: int) -> tuple[int, ...]:
    """The `select` frames with the highest scores [F], ascending; ties go to the earlier frame."""
    return tuple(sorted(np.argsort(-scores, kind="stable")[:select].tolist()))
