"""Plans QC-Comp: windows over a video, segments inside a window, scored layers.

Windows cover a long video in several rounds, each shifted, so that every frame is scored in
different clips and contexts. Within a window, clips are scored by the attention from the question
to them inside short segments (`ops.clip_scores`). All functions take plain numbers, known before
tracing (paper 3.3; docs/reference_behaviour.md#qc-comp).
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
    """Returns the number of frames to select from a video, or None to keep all.

    Without `config.select`, the paper's rule applies: 512 below an hour, 2,048 from an hour on. A
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
    """Windows over a video of `num_frames` frames.

    Window w holds frames (starts[w] + i) modulo num_frames for i below `length`; a window may wrap
    around from the end of the video to its beginning.
    """

    num_frames: int
    length: int
    starts: tuple[int, ...]

    @property
    def num_clips(self) -> int:
        """Number of score clips of one window."""
        return self.length // SCORE_CLIP_FRAMES

    def clip_starts(self, window: int, clip_frames: int) -> tuple[int, ...]:
        """Returns the first frame of each encoder clip in one window."""
        first = self.starts[window]
        return tuple((first + i) % self.num_frames for i in range(0, self.length, clip_frames))


def plan_windows(config: SelectionConfig, num_frames: int) -> Windows:
    """Places the windows over a video.

    `config.repeats` rounds cover the video, each shifted by window/repeats + 8/repeats frames
    against the previous round, so that its clips are cut differently. With `granularity="clip"`, a
    departure (docs/departures.md), the shift is rounded down to whole clips, so that all windows
    share the same clips.

    Raises:
        ConfigError: the video is too short for one segment.
    """
    shift = SCORE_CLIP_FRAMES // config.repeats + config.window_frames // config.repeats
    if config.granularity == "clip":
        shift = shift // SCORE_CLIP_FRAMES * SCORE_CLIP_FRAMES
    margin = 2 * SCORE_CLIP_FRAMES * config.segment_stride if config.scope == "segments" else 0
    step, length = config.window_frames, config.window_frames + margin
    if length > num_frames:
        # The original never scores videos this short. The window is the whole video, rotated until
        # every frame has been in the part that most segments cover.
        clips = covered = num_frames // SCORE_CLIP_FRAMES
        if config.scope == "segments":
            further_segments = max(clips - config.segment_clips, 0) // config.segment_stride
            covered = further_segments * config.segment_stride or config.segment_clips
        step = covered * SCORE_CLIP_FRAMES
        length = num_frames
    rounds = -(-num_frames // step)
    min_length = SCORE_CLIP_FRAMES * (config.segment_clips if config.scope == "segments" else 1)
    if length < min_length:
        raise ConfigError(
            f"selection.segment_clips={config.segment_clips} clips of {SCORE_CLIP_FRAMES} frames "
            f"need a video of at least {min_length} frames, this video has {num_frames}; "
            "use shorter segments or no selection"
        )
    starts = tuple(
        (i * step + i // rounds * shift) % num_frames for i in range(config.repeats * rounds)
    )
    return Windows(num_frames, length, starts)


def plan_segments(config: SelectionConfig, *, num_clips: int, visual_tokens: int) -> Segments:
    """Places the segments of a window of `num_clips` score clips and `visual_tokens` tokens.

    With `scope="global"`, the whole window is one segment. Tokens that do not divide among the
    clips are left over at the end of the window.

    Raises:
        ConfigError: a window has fewer clips than a segment.
    """
    tokens = visual_tokens // max(num_clips, 1)
    if config.scope == "global":
        return Segments(num_clips, tokens, size=num_clips, stride=num_clips)
    if num_clips < config.segment_clips:
        raise ConfigError(
            f"selection.segment_clips={config.segment_clips} is more than the {num_clips} clips of "
            "a window; use shorter segments or longer windows (selection.window_frames)"
        )
    return Segments(num_clips, tokens, size=config.segment_clips, stride=config.segment_stride)


@dataclasses.dataclass(frozen=True)
class WindowLayerGroup:
    """Consecutive decoder layers of a scoring window.

    layers: the group as in the decoder, cut where scoring begins or ends.
    leftover: visual tokens after the last whole clip; the original counts them as text.
    segments: segments scored at these layers, or None if the layers are not scored.
    """

    layers: LayerGroup
    leftover: int
    segments: Segments | None


@dataclasses.dataclass(frozen=True)
class ScoringPlan:
    """Static description of scoring a window; hashable, for use as a static argument of `jax.jit`.

    groups: layer groups up to the last scored layer.
    prefix_length: text tokens before the video.
    whole_text: True if the assistant's header is among the keys (global scope).
    """

    groups: tuple[WindowLayerGroup, ...]
    prefix_length: int
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
        visual_tokens: number of visual tokens of a window at the first layer.
        prefix_length: text tokens before the video.

    Raises:
        ConfigError: the compression has ranked drops, a window is too short for its segments, or
            the model lacks a scored layer.
    """
    first, stop = layers_to_score(config, sum(group.num_layers for group in layer_groups))
    num_clips = visual_tokens // (SCORE_CLIP_FRAMES * tokens_per_frame)
    groups: list[WindowLayerGroup] = []
    layer = 0
    for group in layer_groups:
        if isinstance(group.drop, RankedDrop):
            raise ConfigError(
                "selection needs video states that do not depend on the question, which "
                "compression.schedule='ranked' does not have; use 'none' or LP-Comp"
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
    return ScoringPlan(tuple(groups), prefix_length, config.scope == "global")


def layers_to_score(config: SelectionConfig, num_layers: int) -> tuple[int, int]:
    """Returns the first scored layer and the end (exclusive) of the scored layers.

    Raises:
        ConfigError: the model has fewer layers.
    """
    if config.layers is None:
        published = 28
        return num_layers * 6 // published, max(1, num_layers * 24 // published)
    first, stop = config.layers
    if stop > num_layers:
        raise ConfigError(
            f"selection.layers={config.layers} goes beyond the model's {num_layers} layers; "
            f"use values up to {num_layers}"
        )
    return first, stop
