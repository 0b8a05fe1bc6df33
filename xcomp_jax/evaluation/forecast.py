"""Estimates the cost of a run before it starts, from a sample of its videos."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xcomp_jax.compression.schedule import LayerGroup, RankedDrop
from xcomp_jax.config import ModelConfig, SelectionConfig
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.grouping import VideoGroup
from xcomp_jax.evaluation.media import VideoFinder
from xcomp_jax.evaluation.scoring import Span
from xcomp_jax.flops import encoder_flops, prefill_flops, reading_flops
from xcomp_jax.inference.selecting import plan_selection
from xcomp_jax.inference.session import Session
from xcomp_jax.inference.video_input import sample_frames
from xcomp_jax.selection.plan import plan_scoring
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import FramePlan

SAMPLED = 32
"""Videos that are probed; the others are taken to be like these."""

TEXT_TOKENS = 200
"""Text tokens of a question, with its options."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """Estimated cost of answering all questions once.

    Attributes:
        videos: videos of the run; probed: those that the estimate rests on.
        frames: sampled frames of all videos and clips.
        clips: encoder calls, including those of shifted windows and selected frames.
        operations: floating-point operations of encoder and decoder.
        store_bytes: visual tokens that a token store would hold.
    """

    videos: int
    probed: int
    questions: int
    frames: float
    clips: float
    operations: float
    store_bytes: float

    @property
    def text(self) -> str:
        """One sentence for a terminal."""
        size = f"{self.videos:,} videos, {self.questions:,} questions"
        if not self.probed:
            return f"{size}; no cost estimate, because no sampled video could be read"
        return (
            f"{size}; about {self.frames:,.0f} frames, {self.clips:,.0f} encoded clips, "
            f"{self.operations / 1e12:,.3g} TFLOP, {self.store_bytes / 1e9:,.3g} GB of stored "
            f"tokens (from {self.probed} probed videos)"
        )


def forecast_cost(
    session: Session, groups: Sequence[VideoGroup], data: Path, *, extracted_frames: bool
) -> Forecast:
    """Probes up to `SAMPLED` videos, evenly spread over `groups`; skips archives and bad files.

    Raises:
        ConfigError: the settings do not fit the model.
    """
    finder = VideoFinder(data, extracted_frames=extracted_frames)
    chosen = np.linspace(0, len(groups) - 1, min(SAMPLED, len(groups))).astype(int).tolist()
    costs = [
        cost
        for index in chosen
        if (cost := _group_cost(session, groups[index], finder)) is not None
    ]
    factor = len(groups) / max(1, len(costs))
    frames, clips, operations = factor * np.sum(np.array([*costs, (0, 0, 0)], float), axis=0)
    config = session.config
    clip_tokens = config.vision.clip_frames * config.projector.tokens_per_frame
    clip_bytes = clip_tokens * config.llm.hidden_size * config.compute_dtype.itemsize
    return Forecast(
        videos=len(groups),
        probed=len(costs),
        questions=sum(len(group.questions) for group in groups),
        frames=frames,
        clips=clips,
        operations=operations,
        store_bytes=clips * clip_bytes,
    )


Cost = tuple[float, float, float]
"""Frames, clips and operations."""


def _group_cost(session: Session, group: VideoGroup, finder: VideoFinder) -> Cost | None:
    first = group.questions[0]
    try:
        place = finder.find(first)
        if place.member:
            return None
        info = probe(place.path, folder_fps=first.folder_fps)
        costs = [
            _clip_cost(session, _frame_plan(session, info, clip), len(questions))
            for clip, questions in group.by_clip
        ]
    except (DataError, VideoError):
        return None
    frames, clips, operations = np.sum(costs, axis=0)
    return frames, clips, operations


def _frame_plan(session: Session, info: VideoInfo, clip: Span | None) -> FramePlan:
    start, end = clip or (None, None)
    return sample_frames(
        info, session.config, session.sampling, num_frames=None, start=start, end=end
    )[1]


def _clip_cost(session: Session, plan: FramePlan, questions: int) -> Cost:
    """Counts one encoding of a video, and its questions."""
    config, engine = session.config, session.engine
    frames, clip_frames = len(plan.indices), config.vision.clip_frames
    tokens = config.projector.tokens_per_frame
    layers = _without_ranking(engine.layer_groups)
    windows, selected = plan_selection(engine, session.selection, plan)
    starts = set(range(0, frames, clip_frames))
    if windows is None or selected is None:
        prefill = prefill_flops(config, layers, text=0, visual=frames * tokens)
        reading = reading_flops(config, layers, before=0, visual=frames * tokens, rows=TEXT_TOKENS)
        decoder = prefill + questions * reading
        recut = 0
    else:
        for number in range(len(windows.starts)):
            starts.update(windows.clip_starts(number, clip_frames))
        decoder = len(windows.starts) * _window_flops(
            config, layers, session.selection, windows.length * tokens
        ) + questions * prefill_flops(config, layers, text=TEXT_TOKENS, visual=selected * tokens)
        by_frame = session.selection is not None and session.selection.granularity == "frame"
        # Selected frames are rarely neighbours that a stored clip covers.
        recut = questions * selected // clip_frames if by_frame else 0
    clips = len(starts) + recut
    return frames, clips, clips * encoder_flops(config) + decoder


def _window_flops(
    config: ModelConfig,
    layers: Sequence[LayerGroup],
    selection: SelectionConfig | None,
    visual: int,
) -> int:
    """Counts the prefill of one window up to the last scored layer."""
    assert selection is not None
    plan = plan_scoring(
        layers,
        selection,
        visual_tokens=visual,
        tokens_per_frame=config.projector.tokens_per_frame,
        prefix_length=0,
    )
    return prefill_flops(config, [group.layers for group in plan.groups], text=0, visual=visual)


def _without_ranking(layer_groups: Sequence[LayerGroup]) -> list[LayerGroup]:
    """Removes drops whose number of tokens depends on the question: an upper bound."""
    return [
        dataclasses.replace(group, drop=None) if isinstance(group.drop, RankedDrop) else group
        for group in layer_groups
    ]
