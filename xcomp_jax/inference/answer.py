"""The answer to a question, with the frames it came from and what it cost."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    num_frames: sampled frames of the video; duration: seconds of it.
    selected_frames: indices of the sampled frames that the answering pass saw, None for all.
    scores: [num_frames] score of each frame for this question, None where all frames were used.
    seconds: busy seconds by step; steps overlap, so they may sum to more than `wall_seconds`.
    work: amounts by name ("clips encoded", "text rows").
    compilations: programs compiled on the way.
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
