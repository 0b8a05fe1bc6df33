"""Configuration of frame sampling and of frame selection by the question."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from xcomp_jax.config.schema import require

CutBy = Literal["time_stamps", "mean_rate"]
"""Clocks by which a part of a video is cut."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Frame sampling (docs/reference_behaviour.md#sampling).

    fps: frames per second.
    min_frames, max_frames: bounds on the number of sampled frames.
    cut_by:
        clock of start and end in videos with unevenly spaced frames: `time_stamps` cuts at the
        frames' true times; `mean_rate`, as in the original, at frame numbers divided by the
        average frame rate. Evenly spaced frames give the same cut.
    max_damaged:
        largest share of damaged frames that is accepted, each replaced by the nearest good one.
    """

    fps: int = 8
    min_frames: int = 128
    max_frames: int = 1024
    cut_by: CutBy = "time_stamps"
    max_damaged: float = 0.08

    def __post_init__(self) -> None:
        require(
            self.cut_by in get_args(CutBy),
            f"sampling.cut_by={self.cut_by!r} must be one of {list(get_args(CutBy))}",
        )
        require(
            0 <= self.max_damaged <= 1,
            f"sampling.max_damaged={self.max_damaged:g} must lie in [0, 1]",
        )
        require(self.fps >= 1, f"sampling.fps={self.fps} must be at least 1")
        require(
            1 <= self.min_frames <= self.max_frames,
            f"sampling: min_frames={self.min_frames} must lie in [1, max_frames={self.max_frames}]",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """QC-Comp: selection of frames by the question (paper 3.3).

    select:
        frames to keep; None follows the paper: 512 of a video below an hour, 2,048 of a longer one.
    min_frames: videos with fewer frames are kept whole, as in the original below 1,024.
    repeats:
        passes over the video, each with shifted windows. 2 in the paper's tables and the published
        logs; 8 in the original's script.
    scope:
        `segments`, attention inside short segments of `segment_clips` clips of 8 frames, one every
        `segment_stride`; `global`, over the whole window, the paper's baseline.
    query_bias:
        text tokens between the video and the question. Meant to skip the time message, whose length
        varies by a few tokens; the published value is used for every message, except where it
        leaves no text of a short question, which is then scored from its first token.
    layers:
        first and one past the last layer whose scores are summed; None: 6 to 23 of 28 layers, as
        published, and the same fraction of another depth.
    window_frames: length of a window, without the margin that segments add.
    granularity:
        `frame`, as published; `clip`, a departure: windows are shifted by whole clips, so that
        selected clips reuse their visual tokens.
    """

    select: int | None = None
    min_frames: int = 1024
    repeats: int = 2
    scope: Literal["segments", "global"] = "segments"
    segment_clips: int = 8
    segment_stride: int = 4
    query_bias: int = 27
    layers: tuple[int, ...] | None = None
    window_frames: int = 512
    granularity: Literal["frame", "clip"] = "frame"

    def __post_init__(self) -> None:
        for field, least in (
            ("min_frames", 0),
            ("repeats", 1),
            ("segment_clips", 1),
            ("segment_stride", 1),
            ("query_bias", 0),
            ("window_frames", 8),
        ):
            value = getattr(self, field)
            require(value >= least, f"selection.{field}={value} must be at least {least}")
        require(
            self.select is None or self.select >= 1,
            f"selection.select={self.select} must be at least 1, or None for the paper's rule",
        )
        require(
            self.segment_stride <= self.segment_clips,
            f"selection.segment_stride={self.segment_stride} must not exceed "
            f"segment_clips={self.segment_clips}: clips in between would never be scored",
        )
        require(
            self.layers is None or (len(self.layers) == 2 and 0 <= self.layers[0] < self.layers[1]),
            f"selection.layers={self.layers} must be (first, one past the last), "
            "like (6, 24) (--layers 6:24)",
        )
