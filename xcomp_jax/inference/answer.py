"""What comes back from a question, and the watch that timed it."""

from __future__ import annotations

import dataclasses
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    num_frames: frames looked at; chosen: the places among them that the answering pass saw, or
    None for all; scores: [num_frames] how much the question looks at each, None where all were
    used; duration: seconds of video.
    seconds: where the time went; work: how often what was done ("clips encoded", "text rows");
    compilations: programs that had to be compiled.
    """

    question: str
    text: str
    token_ids: tuple[int, ...]
    num_frames: int
    duration: float
    selected_frames: tuple[int, ...] | None
    scores: np.ndarray | None
    seconds: dict[str, float]
    work: dict[str, int]
    compilations: int


class Stopwatch:
    """Adds up wall seconds, and amounts of work, under a few names."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.work: dict[str, int] = {}

    def measure(self, name: str, start: float) -> None:
        """Adds the time since `start` (from `time.perf_counter()`) to `name`."""
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def count(self, name: str, amount: int) -> None:
        """Adds to the amount of work `name`."""
        self.work[name] = self.work.get(name, 0) + amount
