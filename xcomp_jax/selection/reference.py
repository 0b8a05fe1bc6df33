"""Defines QC-Comp's scores as the original computes them.

For every window of every question, all frames are encoded again, the whole window runs through
every decoder layer, and each segment's full attention map is built, although only a few rows and
columns are read. Only the answer that the original generates per window and discards is omitted.
Tests and `xcomp bench selection-speed` compare the fast path with this slow one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.schedule import Drop, LayerGroup
from xcomp_jax.config import LLMConfig, SelectionConfig
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.ops.clip_scores import Segments
from xcomp_jax.ops.rope import rope_base, rope_tables, rotate
from xcomp_jax.selection.frame_scores import UNCOVERED
from xcomp_jax.selection.plan import ScoringPlan, layers_to_score, plan_scoring
from xcomp_jax.selection.query import Query
from xcomp_jax.selection.windows import Windows


def reference_scores(
    model: XComp,
    params: Params,
    layer_groups: Sequence[LayerGroup],
    config: SelectionConfig,
    windows: Windows,
    frames: np.ndarray,
    prefix: Sequence[int],
    query: Query,
    *,
    encode: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Scores one question about uint8 frames [F, X, X, 3].

    Args:
        prefix: token ids before the video.
        encode: maps uint8 clips [C, T, X, X, 3] to visual tokens [C, T * tokens_per_frame, D].

    Returns:
        [windows, layers, clips] float32, the input of `frame_scores.scores_of_frames`.
    """
    tokens_per_frame = model.config.projector.tokens_per_frame
    num_layers = model.config.llm.num_hidden_layers
    plan = plan_scoring(
        layer_groups,
        dataclasses.replace(config, layers=(0, num_layers)),
        visual_tokens=windows.length * tokens_per_frame,
        tokens_per_frame=tokens_per_frame,
        prefix_length=len(prefix),
    )
    ids = np.array([*prefix, *query.ids], np.int32)
    scored_layers = slice(*layers_to_score(config, num_layers))
    window_results = []
    for start in windows.starts:
        indices = (start + np.arange(windows.length)) % windows.num_frames
        clips = frames[indices].reshape(-1, model.config.vision.clip_frames, *frames.shape[1:])
        tokens = encode(clips)
        visual = tokens.reshape(-1, tokens.shape[-1])
        layers = window_scores(
            model, params, ids, visual, plan=plan, question=(query.question_start, query.header)
        )
        window_results.append(np.stack([np.asarray(layer) for layer in layers[scored_layers]]))
    return np.stack(window_results)


@functools.partial(jax.jit, static_argnames=("model", "plan", "question"))
def window_scores(
    model: XComp,
    params: Params,
    ids: Array,
    visual: Array,
    *,
    plan: ScoringPlan,
    question: tuple[int, int],
) -> list[Array]:
    """Scores the clips of one window at every layer of the plan.

    Args:
        ids: [P + Q] text before and after the video.
        question: first row of the question after the video, and one past its last.
        visual: [V, D].

    Returns:
        [clips] float32 for each layer.
    """
    decoder, before = params["llm"], plan.prefix_length
    embedding = decoder["embed_tokens"]["embedding"]
    prefix, suffix = embedding[ids[:before]][None], embedding[ids[before:]][None]
    visual = visual[None]
    attend = functools.partial(_attend, model.config.llm)
    apply = model.bind({"params": params}).llm.layer.apply
    layer, scores = 0, []
    for group in plan.groups:
        if group.layers.drop is not None:
            assert isinstance(group.layers.drop, Drop)
            visual = apply_drop(visual, group.layers.drop)
        after = before + visual.shape[1]
        for _ in range(group.layers.num_layers):
            x = jnp.concatenate([prefix, visual, suffix], axis=1)
            weights = jax.tree.map(lambda leaf, i=layer: leaf[i], decoder["layers"])
            out: Any = apply({"params": weights}, x, attend)
            x, (query, key) = out
            prefix, visual, suffix = x[:, :before], x[:, before:after], x[:, after:]
            layer += 1
            if group.segments is not None:
                scores.append(
                    _layer_scores(model.config.llm, query, key, group.segments, plan, question)
                )
    return scores


def _layer_scores(
    llm: LLMConfig,
    query: Array,
    key: Array,
    segments: Segments,
    plan: ScoringPlan,
    question: tuple[int, int],
) -> Array:
    """Computes scores [clips] from queries and keys [S, heads, H] of a layer, before rotation."""
    before, size = plan.prefix_length, segments.clip_tokens
    after = before + segments.num_clips * size
    text = slice(after, None if plan.whole_text else after + question[1])
    scores, coverage = jnp.zeros(segments.num_clips), np.zeros(segments.num_clips)
    for number in range(segments.count):
        first = number * segments.stride
        inside = slice(before + first * size, before + (first + segments.size) * size)
        q, k = (jnp.concatenate([y[:before], y[inside], y[text]]) for y in (query, key))
        attention = _attention_map(llm, q, k, causal=False).mean(0)
        end = before + segments.size * size
        rows = slice(end + question[0], end + question[1])
        clip_attention = attention[rows, before:end].mean(0).reshape(segments.size, size)
        clips = slice(first, first + segments.size)
        scores = scores.at[clips].add(clip_attention.mean(1))
        coverage[clips] += 1
    return jnp.where(coverage == coverage.max(), scores / np.maximum(coverage, 1), UNCOVERED)


def _attention_map(llm: LLMConfig, query: Array, key: Array, *, causal: bool) -> Array:
    """Returns attention [heads, queries, keys]; positions start at 0."""
    length = query.shape[0]
    cos, sin = rope_tables(
        jnp.arange(length)[None],
        llm.head_dim,
        rope_base(llm.rope_theta, llm.yarn_factor),
        query.dtype,
    )
    query, key = (rotate(x[None], cos, sin)[0] for x in (query, key))
    key = jnp.repeat(key, llm.num_attention_heads // llm.num_key_value_heads, axis=1)
    logits = jnp.einsum("qnh,knh->nqk", query, key) * llm.head_dim**-0.5
    if causal:
        logits = jnp.where(jnp.tril(jnp.ones((length, length), bool))[None], logits, -jnp.inf)
    return jax.nn.softmax(logits, axis=-1)


def _attend(llm: LLMConfig, query: Array, key: Array, value: Array) -> Any:
    weights = _attention_map(llm, query[0], key[0], causal=True)
    value = jnp.repeat(value[0], llm.num_attention_heads // llm.num_key_value_heads, axis=1)
    return jnp.einsum("nqk,knh->qnh", weights, value)[None], (query[0], key[0])
