"""Estimates the cost of a run before it starts, from a sample of its videos."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from xcomp_jax.compression.schedule import LayerGroup, RankedDrop
from xcomp_jax.config import ModelConfig, SelectionConfig
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.grouping import VideoGroup
from xcomp_jax.evaluation.media import VideoFinder
from xcomp_jax.evaluation.scoring import Span
from xcomp_jax.evidence.wording import duration_text
from xcomp_jax.flops import encoder_flops, prefill_flops, reading_flops
from xcomp_jax.inference.selecting import plan_selection
from xcomp_jax.inference.session import Session
from xcomp_jax.inference.video_input import sample_frames
from xcomp_jax.peaks import peak_of
from xcomp_jax.selection.plan import plan_scoring
from xcomp_jax.selection.windows import SCORE_CLIP_FRAMES, Windows
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
        original_clips, original_operations: the same by the original's way, which decodes, encodes
            and prefills a video again for every question.
        store_bytes: visual tokens that a token store would hold.
        peak_seconds: least time by the peak rate of the devices; None for unknown devices.
    """

    videos: int
    probed: int
    questions: int
    frames: float
    clips: float
    operations: float
    original_clips: float
    original_operations: float
    store_bytes: float
    peak_seconds: float | None = None

    @property
    def text(self) -> str:
        """One sentence for a terminal."""
        size = f"{self.videos:,} videos, {self.questions:,} questions"
        if not self.probed:
            return f"{size}; no cost estimate, because no sampled video could be read"
        return (
            f"{size}; about {self.frames:,.0f} frames, {self.clips:,.0f} encoded clips, "
            f"{self.operations / 1e12:,.3g} TFLOP, {self.store_bytes / 1e9:,.3g} GB of stored "
            f"tokens (from {self.probed} probed videos){self._least}. The original's way, a video "
            f"again for each question: {self.original_clips:,.0f} encoded clips, "
            f"{self.original_operations / 1e12:,.3g} TFLOP"
        )

    @property
    def _least(self) -> str:
        if self.peak_seconds is None:
            return ""
        return f"; at least {duration_text(self.peak_seconds)} at the devices' peak rate"


def group_operations(
    session: Session, group: VideoGroup, data: Path, *, extracted_frames: bool
) -> float | None:
    """Estimates the floating-point operations of one video; None if it cannot be probed."""
    cost = _group_cost(session, group, VideoFinder(data, extracted_frames=extracted_frames))
    return None if cost is None else cost.operations


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
    total = sum(costs, start=Cost())
    config = session.config
    clip_tokens = config.vision.clip_frames * config.projector.tokens_per_frame
    clip_bytes = clip_tokens * config.llm.hidden_size * config.compute_dtype.itemsize
    peak, devices = peak_of(jax.devices()[0].device_kind), session.engine.placement.num_devices
    operations = factor * total.operations
    return Forecast(
        videos=len(groups),
        probed=len(costs),
        questions=sum(len(group.questions) for group in groups),
        frames=factor * total.frames,
        clips=factor * total.clips,
        operations=operations,
        original_clips=factor * total.original_clips,
        original_operations=factor * total.original_operations,
        store_bytes=factor * total.stored * clip_bytes,
        peak_seconds=None if peak is None else operations / (1e12 * peak.tflops * devices),
    )


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of the questions about one video; see `Forecast`. stored: clips in a token store."""

    frames: float = 0
    clips: float = 0
    stored: float = 0
    operations: float = 0
    original_clips: float = 0
    original_operations: float = 0

    def __add__(self, other: Cost) -> Cost:
        ours, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Cost(*(a + b for a, b in zip(ours, theirs, strict=True)))


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
    return sum(costs, start=Cost())


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
        video = prefill_flops(config, layers, text=0, visual=frames * tokens)
        question = reading_flops(config, layers, before=0, visual=frames * tokens, rows=TEXT_TOKENS)
        recut, encoded = 0, len(starts)
    else:
        for number in range(len(windows.starts)):
            starts.update(windows.clip_starts(number, clip_frames))
        video = len(windows.starts) * _window_flops(
            config, layers, session.selection, windows.length * tokens
        )
        question = prefill_flops(config, layers, text=TEXT_TOKENS, visual=selected * tokens)
        recut = 0 if _cuts_alike(windows, clip_frames) else selected // clip_frames
        # The original encodes every window of every question, and then its selected frames.
        encoded = (len(windows.starts) * windows.length + selected) // clip_frames
    clips = len(starts) + questions * recut
    return Cost(
        frames=frames,
        clips=clips,
        stored=len(starts),
        operations=clips * encoder_flops(config) + video + questions * question,
        original_clips=questions * encoded,
        original_operations=questions * (encoded * encoder_flops(config) + video + question),
    )


def _cuts_alike(windows: Windows, clip_frames: int) -> bool:
    """Returns whether selected frames always form clips that a window has.

    Frames share a score in blocks that begin at multiples of the windows' smallest shift. Otherwise
    every selected clip is counted, an upper bound: some are in a window or another question's.
    """
    block = math.gcd(SCORE_CLIP_FRAMES, windows.num_frames, *windows.starts)
    return block % clip_frames == 0


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
