"""Choosing frames for a question: scores of every window, kept states where there are some."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from xcomp_jax.compression.schedule import LayerGroup
from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.inference.encoded_video import EncodedVideo, num_bytes
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.selection.plan import (
    FrameScores,
    ScoringPlan,
    Windows,
    best_frames,
    frames_to_select,
    plan_scoring,
    plan_windows,
    scores_of_frames,
)
from xcomp_jax.selection.scoring import Query, prefill_windows, score_query
from xcomp_jax.video.sampling import FramePlan

WINDOWS_PER_CALL = 4
"""Scoring windows per call: enough to fill an accelerator."""

STATE_BYTES = 4 << 30
"""Host memory for one video's scoring states; windows beyond it are computed again."""

Progress = Any
"""Called with (what is being done, how many are done, how many there are)."""


class Selector:
    """QC-Comp for one model.

    Args:
        stages: of the decoder.
    """

    def __init__(
        self,
        model: XComp,
        params: Params,
        layer_groups: Sequence[LayerGroup],
        config: SelectionConfig,
    ) -> None:
        self.config = config
        self._model, self._params, self._stages = model, params, layer_groups

    def windows_of(self, plan: FramePlan) -> tuple[Windows, int] | None:
        """Windows of a video and how many frames to select, or None where all are kept.

        Raises:
            ConfigError: for frames or layers that cannot be scored; before any work is done.
        """
        clip, total = self._model.config.vision.clip_frames, len(plan.indices)
        select = frames_to_select(self.config, num_frames=total, duration=plan.duration)
        if select is None:
            return None
        if select % clip:
            raise ConfigError(
                f"selection.select={select} must be a multiple of the encoder's clips of {clip} "
                "frames"
            )
        windows = plan_windows(self.config, total)
        self._scoring(windows)
        return windows, select

    def scores(
        self,
        memory: EncodedVideo,
        prefix: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        headers: tuple[int, int],
        stopwatch: Stopwatch,
        progress: Progress = None,
    ) -> list[FrameScores]:
        """Scores of all frames for each of several questions, window after window.

        Args:
            prefix: ids before the video; suffixes: of each question, the ids after it.
            headers: ids of `<|im_start|>` and `assistant`.
        """
        windows = memory.windows
        assert windows is not None
        queries = [Query.of(ids, *headers) for ids in suffixes]
        plan, count = self._scoring(windows), len(windows.starts)
        size = max(n for n in range(1, WINDOWS_PER_CALL + 1) if count % n == 0)
        found: list[list[np.ndarray]] = [[] for _ in queries]
        for batch in range(count // size):
            keys = memory.states.get(batch)
            if keys is None:
                numbers = range(batch * size, (batch + 1) * size)
                keys = self._watched(memory, numbers, prefix, plan, stopwatch)
            begin = time.perf_counter()
            for query, results in zip(queries, found, strict=True):
                results.extend(
                    score_query(
                        self._model,
                        self._params,
                        keys,
                        query,
                        plan,
                        before=len(prefix),
                        query_bias=self.config.query_bias,
                    )
                )
                stopwatch.count("windows scored", size)
            stopwatch.measure("score", begin)
            if batch not in memory.states and (
                num_bytes(memory.states) + num_bytes(keys) <= STATE_BYTES
            ):
                memory.states[batch] = jax.device_get(keys)
            if progress is not None:
                progress("windows", (batch + 1) * size, count)
        return [scores_of_frames(results, windows) for results in found]

    def choose(self, memory: EncodedVideo, scores: FrameScores) -> tuple[int, ...]:
        """The frames a question is answered from."""
        assert memory.select is not None
        return best_frames(scores.total, memory.select)

    def _watched(
        self,
        memory: EncodedVideo,
        numbers: range,
        prefix: Sequence[int],
        plan: ScoringPlan,
        stopwatch: Stopwatch,
    ) -> Any:
        assert memory.windows is not None
        visual = []
        for number in numbers:
            starts = memory.windows.clip_starts(number, self._model.config.vision.clip_frames)
            clips = [memory.clips.clip_at(start) for start in starts]
            tokens = memory.clips.tokens(clips, stopwatch)
            visual.append(tokens.reshape(-1, tokens.shape[-1]))
        begin = time.perf_counter()
        ids = np.asarray(prefix, np.int32)
        keys = prefill_windows(self._model, self._params, ids, np.stack(visual), plan.watched)
        jax.block_until_ready(keys)
        stopwatch.measure("watch windows", begin)
        stopwatch.count("windows watched", len(numbers))
        return keys

    def _scoring(self, windows: Windows) -> ScoringPlan:
        per_frame = self._model.config.projector.tokens_per_frame
        return plan_scoring(
            self._stages,
            self.config,
            visual_tokens=windows.length * per_frame,
            tokens_per_frame=per_frame,
        )
