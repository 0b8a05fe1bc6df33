"""Configuration of frame sampling and of frame selection by the question."""

from __future__ import annotations

import dataclasses
from typing import Literal

from xcomp_jax.config.schema import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Frame sampling (docs/reference_behaviour.md#sampling); `fps` is in frames per second."""

    fps: int = 8
    min_frames: int = 128
    max_frames: int = 1024

    def __post_init__(self) -> None:
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
