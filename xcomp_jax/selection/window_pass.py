"""Scoring passes of QC-Comp: a window's states once, then every question's text rows alone.

The original runs the whole window again for each question and makes full attention maps. But the
states of the video do not depend on the text behind it, and of the maps only the question's rows
are wanted, from keys that the ordinary pass computes anyway.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.schedule import Drop
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_layer import Attend
from xcomp_jax.models.decoder_state import WindowCache
from xcomp_jax.models.qwen2 import Qwen2Decoder, Rotation
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.ops.attention import attention
from xcomp_jax.ops.cached_attention import cached_attention
from xcomp_jax.ops.clip_scores import Segments, TextRows, clip_scores
from xcomp_jax.selection.plan import ScoringPlan, WindowLayerGroup


def prefill_window(
    model: XComp,
    params: Params,
    prefix_ids: Array,
    visual: Array,
    groups: tuple[WindowLayerGroup, ...],
) -> tuple[WindowCache, ...]:
    """Computes the states that scoring needs of a window, for any number of questions.

    Runs only the layers of `groups`. Video states do not depend on text after them, so these
    are the states of the ordinary pass over the window with any question.

    Args:
        prefix_ids: [B, P] text before the video; visual: [B, V, D]; no padding.
    """

    def method(module: XComp) -> tuple[WindowCache, ...]:
        prefix = module.llm.embed(prefix_ids)
        tokens = visual.astype(model.config.compute_dtype)
        return _prefill_window(module.llm, prefix, tokens, groups)

    return apply.call(model, params, method)


def score_window(
    model: XComp,
    params: Params,
    ids: Array,
    length: Array,
    header: Array,
    caches: tuple[WindowCache, ...],
    plan: ScoringPlan,
    *,
    before: int,
    query_bias: Array,
) -> tuple[Array, ...]:
    """Measures how much the text after the video attends to each clip of a window (paper 3.3).

    Args:
        ids: [B, Q] text after the video, padded on the right; length: [B] real rows.
        header: [B] the row at which the assistant's header begins.
        caches: from `prefill_window`, with the layer groups of the same plan.
        before: tokens of text before the video.
        query_bias: int32, rows at the beginning that do not ask.

    Returns:
        For every scored layer group [L, B, segments, clips of a segment] float32.
    """

    def method(module: XComp) -> tuple[Array, ...]:
        rows = module.llm.embed(ids)
        return _score_window(
            module.llm, rows, length, header, caches, plan, before=before, query_bias=query_bias
        )

    return apply.call(model, params, method)


def _prefill_window(
    decoder: Qwen2Decoder, prefix: Array, visual: Array, watched: tuple[WindowLayerGroup, ...]
) -> tuple[WindowCache, ...]:
    """`prefill_window` over embedded text [B, P, D] and visual tokens [B, V, D]."""
    keys = []
    params_of = decoder.split([w.stage for w in watched])
    for part, params in zip(watched, params_of, strict=True):
        if part.stage.drop is not None:
            assert isinstance(part.stage.drop, Drop), "refused by plan_scoring"
            visual = apply_drop(visual, part.stage.drop)
        x = jnp.concatenate([prefix, visual], axis=1)
        rotated = decoder.rotation(jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2]))
        first_left = x.shape[1] - part.left_over

        def attend(
            query: Array,
            key: Array,
            value: Array,
            rotated: Rotation = rotated,
            first_left: int = first_left,
        ) -> Any:
            out = attention(
                rotated(query),
                rotated(key),
                value,
                causal=True,
                implementation=decoder.kernels.decoder_attention,
            )
            return out, WindowCache(key, value, query[:, first_left:])

        def body(x: Array, p: Any, attend: Attend = attend) -> Any:
            return decoder.layer.apply({"params": p}, x, attend)

        x, kept = lax.scan(body, x, params)
        prefix, visual = x[:, : prefix.shape[1]], x[:, prefix.shape[1] :]
        keys.append(kept)
    return tuple(keys)


def _score_window(
    decoder: Qwen2Decoder,
    x: Array,
    length: Array,
    header: Array,
    keys: tuple[WindowCache, ...],
    plan: ScoringPlan,
    *,
    before: int,
    query_bias: Array,
) -> tuple[Array, ...]:
    """`score_window` over embedded text [B, Q, D]."""
    cfg = decoder.config
    written = jnp.zeros_like(length)
    results = []
    for stage, segments, states, params in zip(
        plan.watched,
        plan.segments,
        keys,
        decoder.split([w.stage for w in plan.watched]),
        strict=True,
    ):
        slots = states.key.shape[2]
        cached_rotated = decoder.rotation(jnp.broadcast_to(jnp.arange(slots), (x.shape[0], slots)))
        rotated = decoder.rotation(
            jnp.broadcast_to(slots + jnp.arange(x.shape[1]), (x.shape[0], x.shape[1]))
        )
        rows = TextRows(
            prefix=jnp.full_like(length, before),
            question_start=jnp.full_like(length, query_bias),
            question_stop=header,
            # The original's segments end before the header; its global variant does not.
            length=length + stage.left_over if plan.whole_text else header,
        )

        def body(
            x: Array,
            layer: Any,
            segments: Segments | None = segments,
            clips_end: int = slots - stage.left_over,
            cached_rotated: Rotation = cached_rotated,
            rotated: Rotation = rotated,
            rows: TextRows = rows,
        ) -> Any:
            p, state = layer

            def attend(query: Array, key: Array, value: Array) -> Any:
                out = cached_attention(
                    rotated(query),
                    (cached_rotated(state.key), state.value),
                    None,
                    (rotated(key), value),
                    written,
                    implementation=decoder.kernels.cached_attention,
                )
                if segments is None:
                    return out, None
                return out, clip_scores(
                    jnp.concatenate([state.tail_query, query], axis=1),
                    state.key[:, :before],
                    state.key[:, before:clips_end],
                    jnp.concatenate([state.key[:, clips_end:], key], axis=1),
                    segments=segments,
                    rows=rows,
                    rope_theta=cfg.rope_theta,
                    implementation=decoder.kernels.clip_scores,
                )

            return decoder.layer.apply({"params": p}, x, attend)

        x, scores = lax.scan(body, x, (params, states))
        if segments is not None:
            results.append(scores)
    return tuple(results)
