"""Defines the answer to a question, with its frames, scores and costs."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer with its frames, scores and costs.

    num_frames: number of sampled frames; duration: seconds of the video.
    selected_frames: indices of the sampled frames that the answer was generated from; None for all.
    scores: [num_frames] score of each frame for this question; None if all frames were used.
    seconds: busy seconds by step; steps overlap, so they may sum to more than `wall_seconds`.
    work: amounts of work by name ("clips encoded", "text rows").
    compilations: number of programs compiled for this answer.
    """

    question: str
    text: str
    token_ids: tuple[int, ...]
    num_frames: int
    duration: float
    selected_frames: tuple[int, ...] | None
    scores: np.ndarray | None
    seconds: dict[str, float]
    wall_seconds: float
    work: dict[str, int]
    compilations: int
