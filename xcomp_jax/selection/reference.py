"""Question-conditioned selection by its definition, as the original computes it.

For every window of every question: the frames are encoded again, the whole window runs through all
layers of the decoder, and in each of them, whether its scores count or not, every segment's full
attention map is made, of which a few rows and columns are read. Only the answer that the original
writes in every window and throws away is left out. Slow on purpose: what `launch.qc_speed` and the
tests compare with.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.schedule import Drop
from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.programs import encode_some
from xcomp_jax.engine.reader import Reader
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.ops.rope import rope_tables, rotate
from xcomp_jax.selection.plan import (
    ScoringPlan,
    Windows,
    layers_to_score,
    plan_scoring,
)


@functools.partial(jax.jit, static_argnames=("model", "plan", "before", "header", "bias"))
def window_scores(
    model: XComp,
    params: Params,
    ids: Array,
    visual: Array,
    *,
    plan: ScoringPlan,
    before: int,
    header: int,
    bias: int,
) -> list[Array]:
    """[clips] of every layer of the plan, for one window.

    Args:
        ids: text before and after the video [P + Q]; `before` is P, and the assistant's header
            begins at P + `header`.
        visual: [V, D].
    """
    llm, decoder = model.config.llm, params["llm"]
    table = decoder["embed_tokens"]["embedding"]
    prefix, suffix = table[ids[:before]][None], table[ids[before:]][None]
    rows, layer, found, visual = suffix.shape[1], 0, [], visual[None]

    def attention_map(query: Array, key: Array, *, causal: bool) -> Array:
        count = query.shape[0]
        cos, sin = rope_tables(jnp.arange(count)[None], llm.head_dim, llm.rope_theta, query.dtype)
        query, key = (rotate(x[None], cos, sin)[0] for x in (query, key))
        key = jnp.repeat(key, llm.num_attention_heads // llm.num_key_value_heads, axis=1)
        scores = jnp.einsum("qnh,knh->nqk", query, key) * llm.head_dim**-0.5
        if causal:
            scores = jnp.where(jnp.tril(jnp.ones((count, count), bool))[None], scores, -jnp.inf)
        return jax.nn.softmax(scores, axis=-1)

    def attend(query: Array, key: Array, value: Array) -> Any:
        weights = attention_map(query[0], key[0], causal=True)
        value = jnp.repeat(value[0], llm.num_attention_heads // llm.num_key_value_heads, axis=1)
        return jnp.einsum("nqk,knh->qnh", weights, value)[None], (query[0], key[0])

    apply = model.bind({"params": params}).llm.layer.apply
    for part, segments in zip(plan.watched, plan.segments, strict=True):
        if part.stage.drop is not None:
            assert isinstance(part.stage.drop, Drop)
            visual = apply_drop(visual, part.stage.drop)
        count = visual.shape[1]
        for _ in range(part.stage.num_layers):
            x = jnp.concatenate([prefix, visual, suffix], axis=1)
            weights = jax.tree.map(lambda leaf, i=layer: leaf[i], decoder["layers"])
            out: Any = apply({"params": weights}, x, attend)
            x, (query, key) = out
            prefix, visual, suffix = x[:, :before], x[:, before : before + count], x[:, -rows:]
            layer += 1
            if segments is None:
                continue
            scores, covered = jnp.zeros(segments.num_clips), np.zeros(segments.num_clips)
            size = segments.clip_tokens
            for number in range(segments.count):
                first = number * segments.stride
                inside = slice(before + first * size, before + (first + segments.size) * size)
                after = before + segments.num_clips * size
                text = slice(after, None if plan.whole_text else after + header)
                q, k = (jnp.concatenate([y[:before], y[inside], y[text]]) for y in (query, key))
                whole = attention_map(q, k, causal=False).mean(0)
                begin = before + segments.size * size
                asked = whole[begin + bias : begin + header, before:begin].mean(0)
                clips = slice(first, first + segments.size)
                scores = scores.at[clips].add(asked.reshape(segments.size, size).mean(1))
                covered[clips] += 1
            found.append(jnp.where(covered == covered.max(), scores / np.maximum(covered, 1), 1e9))
    return found


def naive_scores(
    reader: Reader,
    config: SelectionConfig,
    windows: Windows,
    frames: np.ndarray,
    prefix: Sequence[int],
    suffix: Sequence[int],
    header: int,
) -> np.ndarray:
    """[windows, layers, clips] for one question about uint8 frames [F, S, S, 3]."""
    model, params = reader.model, reader.params
    clip, per_frame = model.config.vision.clip_frames, model.config.projector.tokens_per_frame
    num_layers = model.config.llm.num_hidden_layers
    plan = plan_scoring(
        reader.layer_groups,
        dataclasses.replace(config, layers=(0, num_layers)),
        visual_tokens=windows.length * per_frame,
        tokens_per_frame=per_frame,
    )
    found = []
    for start in windows.starts:
        places = (start + np.arange(windows.length)) % windows.num_frames
        clips = frames[places].reshape(-1, clip, *frames.shape[1:])
        tokens = encode_some(model, params, clips)
        scores = window_scores(
            model,
            params,
            np.array([*prefix, *suffix], np.int32),
            tokens.reshape(-1, tokens.shape[-1]),
            plan=plan,
            before=len(prefix),
            header=header,
            bias=config.query_bias,
        )
        counting = slice(*layers_to_score(config, num_layers))
        found.append(np.stack([np.asarray(layer) for layer in scores[counting]]))
    return np.stack(found)
