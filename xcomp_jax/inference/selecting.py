"""Scores and selects a video's frames for questions, one batch of windows at a time.

One batch of windows is in device memory at a time and is scored for every question. Its caches stay
in host memory for later questions, up to a bound, so that memory does not grow with the video.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.engine.engine import Engine
from xcomp_jax.inference.encoded_video import EncodedVideo, num_bytes
from xcomp_jax.models.decoder_state import WindowCache
from xcomp_jax.selection.frame_scores import FrameScores, best_frames, scores_of_frames
from xcomp_jax.selection.plan import ScoringPlan, frames_to_select, plan_scoring
from xcomp_jax.selection.query import Query
from xcomp_jax.selection.windows import Windows, plan_windows
from xcomp_jax.video.sampling import FramePlan

WINDOW_CACHE_BYTES = 4 << 30
"""Maximum host memory for one video's window caches; further windows are prefilled again."""

Progress = Callable[[str, int, int], None]
"""Callback that receives the unit of work, the number done and the total."""


def plan_selection(
    engine: Engine, config: SelectionConfig | None, plan: FramePlan
) -> tuple[Windows | None, int | None]:
    """Plans a video's windows and number of selected frames; both are None if all are used.

    Raises:
        ConfigError: the frames or layers cannot be scored.
    """
    if config is None:
        return None, None
    clip_frames, num_frames = engine.config.vision.clip_frames, len(plan.indices)
    num_selected = frames_to_select(config, num_frames=num_frames, duration=plan.duration)
    if num_selected is None:
        return None, None
    if num_selected % clip_frames:
        lower = max(num_selected // clip_frames, 1) * clip_frames
        raise ConfigError(
            f"selection.select={num_selected} is not a multiple of {clip_frames}, the "
            f"encoder's clip length; use {lower} or {lower + clip_frames}"
        )
    windows = plan_windows(config, num_frames)
    _scoring_plan(engine, config, windows, prefix_length=0)
    return windows, num_selected


def score_frames(
    engine: Engine,
    video: EncodedVideo,
    queries: Sequence[Query],
    progress: Progress | None = None,
) -> list[FrameScores]:
    """Scores all frames of a video for each question.

    Args:
        video: encoded video with windows.
    """
    windows, config = video.windows, video.selection
    assert windows is not None
    assert config is not None
    plan = _scoring_plan(engine, config, windows, prefix_length=len(video.prefix_ids))
    total = len(windows.starts)
    batches = window_batches(engine, windows)
    size = len(batches[0])
    clip_scores: list[list[np.ndarray]] = [[] for _ in queries]
    if progress is not None:
        progress("windows", 0, total)
    for batch, numbers in enumerate(batches):
        caches = engine.place_windows(
            _window_caches(engine, video, windows, batch, numbers, size, plan)
        )
        for query, results in zip(queries, clip_scores, strict=True):
            scores = engine.score_windows(caches, query, plan, num_windows=len(numbers))
            results.extend(scores)
        if progress is not None:
            progress("windows", numbers.stop, total)
    return [scores_of_frames(results, windows) for results in clip_scores]


def window_batches(engine: Engine, windows: Windows) -> list[range]:
    """Returns the windows of every call, by number; calls are equally large but for the last."""
    total = len(windows.starts)
    num_calls = -(-total // engine.windows_per_call)
    size = -(-total // num_calls)
    return [range(first, min(first + size, total)) for first in range(0, total, size)]


def select_frames(video: EncodedVideo, scores: FrameScores | None) -> tuple[int, ...] | None:
    """Returns the frames with the highest scores; None for all."""
    if scores is None:
        return None
    assert video.num_selected is not None
    return best_frames(scores.total, video.num_selected)


def _window_caches(
    engine: Engine,
    video: EncodedVideo,
    windows: Windows,
    batch: int,
    numbers: range,
    size: int,
    plan: ScoringPlan,
) -> tuple[WindowCache, ...]:
    caches = video.window_caches.get(batch)
    if caches is not None:
        return caches
    visual = []
    for number in numbers:
        starts = windows.clip_starts(number, video.clip_frames)
        tokens = video.clips.tokens([video.clips.clip_at(start) for start in starts])
        visual.append(tokens.reshape(-1, tokens.shape[-1]))
    caches = engine.prefill_windows(np.stack(visual), video.prefix_ids, plan, batch_size=size)
    # On a mesh of several processes, each host holds only a part.
    local = all(leaf.is_fully_addressable for leaf in jax.tree.leaves(caches))
    if local and num_bytes(video.window_caches) + num_bytes(caches) <= WINDOW_CACHE_BYTES:
        video.window_caches[batch] = jax.device_get(caches)
    return caches


def _scoring_plan(
    engine: Engine, config: SelectionConfig, windows: Windows, *, prefix_length: int
) -> ScoringPlan:
    tokens_per_frame = engine.config.projector.tokens_per_frame
    return plan_scoring(
        engine.layer_groups,
        config,
        visual_tokens=windows.length * tokens_per_frame,
        tokens_per_frame=tokens_per_frame,
        prefix_length=prefix_length,
    )
