"""Scores of a video's clips for any number of questions (paper 3.3), window by window.

One window's states are computed at a time, serve every question, and are then forgotten or kept in
host memory for later ones: device memory does not grow with the number of windows.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.engine.buckets import bucket
from xcomp_jax.models.decoder_state import WindowCache
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.selection.plan import ScoringPlan, WindowLayerGroup, scores_of_clips
from xcomp_jax.selection.window_pass import prefill_window, score_window

QUESTION_UNIT = 64


@dataclasses.dataclass(frozen=True)
class Query:
    """The text after the video, as ids, and the place in it where the assistant's header begins."""

    ids: tuple[int, ...]
    header: int

    @classmethod
    def of(cls, ids: Sequence[int], start: int, assistant: int) -> Query:
        """Finds the first header, the pair of ids (`start`, `assistant`).

        Raises:
            ValueError: when there is none.
        """
        pairs = itertools.pairwise(ids)
        header = next((i for i, two in enumerate(pairs) if two == (start, assistant)), None)
        if header is None:
            raise ValueError("the text after the video holds no assistant header")
        return cls(tuple(ids), header)


@functools.partial(jax.jit, static_argnames=("model", "watched"))
def prefill_windows(
    model: XComp,
    params: Params,
    prefix_ids: Array,
    visual: Array,
    watched: tuple[WindowLayerGroup, ...],
) -> tuple[WindowCache, ...]:
    """States of windows [B, V, D] that all follow the text `prefix_ids` [P]."""
    ids = jnp.broadcast_to(prefix_ids, (visual.shape[0], prefix_ids.shape[0]))
    return prefill_window(model, params, ids, visual, watched)


@functools.partial(jax.jit, static_argnames=("model", "plan", "before"))
def score_windows(
    model: XComp,
    params: Params,
    keys: tuple[WindowCache, ...],
    ids: Array,
    length: Array,
    header: Array,
    query_bias: Array,
    *,
    plan: ScoringPlan,
    before: int,
) -> tuple[Array, ...]:
    """Scores of one text `ids` [Q] for every window of `keys`; see `window_pass.score_window`."""
    windows = keys[0].key.shape[1]
    return score_window(
        model,
        params,
        jnp.broadcast_to(ids, (windows, ids.shape[0])),
        jnp.full(windows, length),
        jnp.full(windows, header),
        keys,
        plan,
        before=before,
        query_bias=query_bias,
    )


def score_query(
    model: XComp,
    params: Params,
    keys: tuple[WindowCache, ...],
    query: Query,
    plan: ScoringPlan,
    *,
    before: int,
    query_bias: int,
) -> np.ndarray:
    """[B, layers, clips] float64 scores of B windows from their states.

    The text is padded to a bucket, so that the next question compiles nothing.

    Args:
        before: tokens of text before the video.
    """
    room = bucket(len(query.ids), QUESTION_UNIT)
    ids = np.pad(np.asarray(query.ids, np.int32), (0, room - len(query.ids)))
    by_stage: Any = jax.device_get(
        score_windows(
            model,
            params,
            keys,
            ids,
            np.int32(len(query.ids)),
            np.int32(query.header),
            np.int32(query_bias),
            plan=plan,
            before=before,
        )
    )
    scored = [segments for segments in plan.segments if segments is not None]
    clips = [
        scores_of_clips(np.asarray(scores, np.float64), segments)
        for scores, segments in zip(by_stage, scored, strict=True)
    ]
    return np.moveaxis(np.concatenate(clips), 0, 1)
