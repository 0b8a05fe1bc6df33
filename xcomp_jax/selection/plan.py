"""Plans QC-Comp: windows over a video, segments inside a window, layers that are scored.

A long video is covered by windows, several times over with shifted windows, so that every frame
meets several clips and neighbours. Within a window, clips are scored by the attention that the
question pays to them inside short segments (`ops.clip_scores`). Everything here is a pure function
of numbers, known before tracing (paper 3.3; docs/reference_behaviour.md#qc-comp).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from xcomp_jax.compression.schedule import LayerGroup, RankedDrop
from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.ops.clip_scores import Segments

SCORE_CLIP_FRAMES = 8
"""Frames that share one score, independent of the encoder's clip length."""

HOUR = 3600.0
SELECT_BELOW_AN_HOUR, SELECT_FROM_AN_HOUR = 512, 2048


def frames_to_select(config: SelectionConfig, *, num_frames: int, duration: float) -> int | None:
    """Returns how many of a video's frames to select, or None to keep all of them.

    Without `config.select` the paper's rule applies: 512 below an hour, 2,048 from there on. A
    video with no more frames than that, or with fewer than `config.min_frames`, keeps all.

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
    """Places the windows over a video.

    `config.repeats` rounds cover the video, each shifted against the previous one by
    window/repeats + 8/repeats frames, so that its clips consist of other frames. With
    `granularity="clip"`, a departure, the shift is rounded down to whole clips, so that all
    windows share the same clips.

    Raises:
        ConfigError: when the video is too short for one segment.
    """
    shift = SCORE_CLIP_FRAMES // config.repeats + config.window_frames // config.repeats
    if config.granularity == "clip":
        shift = shift // SCORE_CLIP_FRAMES * SCORE_CLIP_FRAMES
    margin = 2 * SCORE_CLIP_FRAMES * config.segment_stride if config.scope == "segments" else 0
    step, length = config.window_frames, config.window_frames + margin
    if length > num_frames:
        # The original never scores such short videos. The window is the whole video, rotated until
        # every frame has been once where most segments overlap.
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
    are left over at the end of the window.

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
    """Consecutive decoder layers of a scoring window.

    layers: the group as in the decoder, cut where scoring begins or ends.
    leftover: visual tokens at the window's end that belong to no clip; the original counts them as
        text.
    segments: how the window is scored at these layers, or None where it is not.
    """

    layers: LayerGroup
    leftover: int
    segments: Segments | None


@dataclasses.dataclass(frozen=True)
class ScoringPlan:
    """Everything static about scoring a window; hashable, so that programs can be compiled for it.

    groups: the decoder's layers up to the last scored one.
    prefix_length: text tokens before the video.
    query_bias: rows at the beginning of the text after the video that do not count as question.
    whole_text: whether the assistant's header serves as keys too (global scope).
    """

    groups: tuple[WindowLayerGroup, ...]
    prefix_length: int
    query_bias: int
    whole_text: bool

    @property
    def scored(self) -> tuple[Segments, ...]:
        """Segments of the scored layer groups, in order."""
        return tuple(group.segments for group in self.groups if group.segments is not None)


def plan_scoring(
    layer_groups: Sequence[LayerGroup],
    config: SelectionConfig,
    *,
    visual_tokens: int,
    tokens_per_frame: int,
    prefix_length: int,
) -> ScoringPlan:
    """Cuts the decoder's layer groups where scoring begins and ends.

    Args:
        visual_tokens: of a window entering the first layer.
        prefix_length: text tokens before the video.

    Raises:
        ConfigError: a ranked drop by attention, whose tokens depend on the question; a window too
            short for its segments; layers that the model does not have.
    """
    first, stop = layers_to_score(config, sum(group.num_layers for group in layer_groups))
    num_clips = visual_tokens // (SCORE_CLIP_FRAMES * tokens_per_frame)
    groups: list[WindowLayerGroup] = []
    layer = 0
    for group in layer_groups:
        if isinstance(group.drop, RankedDrop):
            raise ConfigError(
                "selection scores the states of a compressed video for any question; "
                "compression.schedule='ranked' has no such states. Use LP-Comp or 'none'"
            )
        visual_tokens = group.visual_length(visual_tokens)
        segments = plan_segments(config, num_clips=num_clips, visual_tokens=visual_tokens)
        leftover = visual_tokens - num_clips * segments.clip_tokens
        end = min(layer + group.num_layers, stop)
        middle = min(max(first, layer), end)
        drop = group.drop
        for num_layers, scored in ((middle - layer, None), (end - middle, segments)):
            if num_layers > 0:
                groups.append(WindowLayerGroup(LayerGroup(num_layers, drop), leftover, scored))
                drop = None
        layer = end
    return ScoringPlan(tuple(groups), prefix_length, config.query_bias, config.scope == "global")


def layers_to_score(config: SelectionConfig, num_layers: int) -> tuple[int, int]:
    """Returns the first and one past the last scored layer.

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
