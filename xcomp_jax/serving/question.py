"""A question about a video on its way through the device thread."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.engine.row_batch import DecodedSequence
from xcomp_jax.inference.answerer import Frames
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.video import Video


@dataclasses.dataclass(frozen=True)
class Tokens:
    """New tokens of an answer; `is_last` after the final ones."""

    ids: tuple[int, ...]
    is_last: bool


@dataclasses.dataclass(frozen=True)
class Failure:
    """The error that ended a question."""

    error: ApiError


Event = Tokens | Failure


@dataclasses.dataclass(eq=False)
class Question:
    """One question; the device thread sets every field from `frames` on.

    prefix_ids, ids: text before and after the video. scored_ids: text whose attention scores the
    frames. emit: receives the events, in the device thread. scores_only: no answer is generated.
    cancelled: nobody waits for the answer. stopped: a stop text has ended it.
    frames, scores: selected frames and scores. reused: tokens of the text found in memory.
    seconds: by step. encoded_frames: frames that this question made the encoder process.
    """

    video: Video
    prefix_ids: tuple[int, ...]
    ids: tuple[int, ...]
    scored_ids: tuple[int, ...]
    generation: GenerationConfig
    seed: int
    emit: Callable[[Event], None]
    scores_only: bool = False
    cancelled: bool = False
    stopped: bool = False
    is_scored: bool = False
    frames: Frames = None
    scores: np.ndarray | None = None
    sequence: DecodedSequence | None = None
    emitted: int = 0
    reused: int = 0
    encoded_frames: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    submitted: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def is_over(self) -> bool:
        """True if no further token is needed."""
        return self.cancelled or self.stopped

    @property
    def state_key(self) -> tuple[Any, ...]:
        """Key of the video's KV cache that this question extends."""
        return (self.video.id, self.prefix_ids, self.frames)

    def add_seconds(self, step: str, seconds: float) -> None:
        """Adds time to a step."""
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def emit_new(self) -> None:
        """Emits the tokens generated since the last call."""
        assert self.sequence is not None
        new = tuple(self.sequence.generated[self.emitted :])
        self.emitted += len(new)
        if new or self.sequence.done:
            self.emit(Tokens(new, self.sequence.done))
