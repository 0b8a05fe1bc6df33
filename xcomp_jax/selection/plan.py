"""Plans QC-Comp: the number of selected frames, and the scored layers of a window.

All functions take plain numbers, known before tracing (paper 3.3;
docs/reference_behaviour.md#qc-comp).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from xcomp_jax.compression.schedule import LayerGroup, RankedDrop
from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.ops.clip_scores import Segments
from xcomp_jax.selection.windows import SCORE_CLIP_FRAMES, plan_segments

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
                "compression.schedule='ranked' does not have; use 'none' or LP-Comp, or all frames "
                "(selection=None, --select all)"
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
            f"selection.layers={config.layers} (--layers {first}:{stop}) goes beyond the model's "
            f"{num_layers} layers; use values up to {num_layers}"
        )
    return first, stop
