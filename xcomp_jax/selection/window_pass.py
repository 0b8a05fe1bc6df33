"""Scores windows for QC-Comp: prefills a window once, then only the text rows of each question.

The original runs the whole window again for each question and builds full attention maps. However,
video states do not depend on later text, and scores need only the question's rows of the maps, from
keys that the prefill computes anyway. Both functions are pure; the engine compiles them.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.schedule import Drop
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import WindowCache
from xcomp_jax.models.qwen2 import Qwen2Decoder, Rotation
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.ops.attention import attention
from xcomp_jax.ops.cached_attention import cached_attention
from xcomp_jax.ops.clip_scores import TextRows, clip_scores
from xcomp_jax.ops.rope import rope_base
from xcomp_jax.selection.plan import ScoringPlan, WindowLayerGroup
from xcomp_jax.sharding import constrained, gathered_layer


@flax.struct.dataclass
class TextQuery:
    """Padded text after the video (`selection.query`), without or with a leading window axis.

    ids: [..., Q]; length: [...] real rows; question_start, header: [...] first row of the question
    and of the assistant's header; all int32.
    """

    ids: Array
    length: Array
    question_start: Array
    header: Array


def prefill_window(
    model: XComp,
    params: Params,
    prefix_ids: Int[Array, "B prefix"],
    visual: Float[Array, "B V D"],
    groups: tuple[WindowLayerGroup, ...],
) -> tuple[WindowCache, ...]:
    """Computes the window states for scoring any number of questions.

    Runs only the layers of `groups`. The states equal those of a prefill with any question,
    because video states do not depend on later text.

    Args:
        prefix_ids: [B, P] text before the video, without padding.
        visual: [B, V, D] visual tokens, without padding.

    Returns:
        One cache per layer group.
    """

    def run(model: XComp) -> tuple[WindowCache, ...]:
        dtype = model.config.compute_dtype
        return _prefill_groups(model.llm, model.llm.embed(prefix_ids), visual.astype(dtype), groups)

    return apply.call(model, params, run)


def score_window(
    model: XComp,
    params: Params,
    query: TextQuery,
    caches: tuple[WindowCache, ...],
    plan: ScoringPlan,
) -> tuple[Float[Array, "_ B _ _"], ...]:
    """Computes the attention from the question to each clip of a window (paper 3.3).

    Args:
        query: text with a leading axis of B windows.
        caches: result of `prefill_window` with the same plan.

    Returns:
        Scores [L, B, segments, clips of a segment] float32 of every scored layer group.
    """

    def run(model: XComp) -> tuple[Array, ...]:
        return _score_groups(model.llm, query, caches, plan)

    return apply.call(model, params, run)


def _prefill_groups(
    decoder: Qwen2Decoder, prefix: Array, visual: Array, groups: tuple[WindowLayerGroup, ...]
) -> tuple[WindowCache, ...]:
    caches = []
    group_params = decoder.split([group.layers for group in groups])
    for group, params in zip(groups, group_params, strict=True):
        if group.layers.drop is not None:
            assert isinstance(group.layers.drop, Drop), "plan_scoring rejects other drops"
            visual = apply_drop(visual, group.layers.drop)
        x = constrained(jnp.concatenate([prefix, visual], axis=1))
        rotated = decoder.rotation(jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2]))
        x, cache = _prefill_group(decoder, x, params, rotated, x.shape[1] - group.leftover)
        prefix, visual = x[:, : prefix.shape[1]], x[:, prefix.shape[1] :]
        caches.append(cache)
    return tuple(caches)


def _prefill_group(
    decoder: Qwen2Decoder, x: Array, params: Any, rotated: Rotation, first_leftover: int
) -> tuple[Array, WindowCache]:
    def attend(query: Array, key: Array, value: Array) -> Any:
        out = attention(
            rotated(query),
            rotated(key),
            value,
            causal=True,
            implementation=decoder.kernels.decoder_attention,
        )
        return out, WindowCache(key, value, query[:, first_leftover:])

    def body(x: Array, layer: Any) -> Any:
        gathered = gathered_layer("llm/layers", layer, decoder.dtype)
        return decoder.layer.apply({"params": gathered}, x, attend)

    return lax.scan(body, x, params)


def _score_groups(
    decoder: Qwen2Decoder, query: TextQuery, caches: tuple[WindowCache, ...], plan: ScoringPlan
) -> tuple[Array, ...]:
    x = decoder.embed(query.ids)
    scores = []
    group_params = decoder.split([group.layers for group in plan.groups])
    for group, cache, params in zip(plan.groups, caches, group_params, strict=True):
        rows = TextRows(
            prefix=jnp.full_like(query.length, plan.prefix_length),
            question_start=query.question_start,
            question_stop=query.header,
            # In the original, segments end before the header, but global windows include it.
            length=query.length + group.leftover if plan.whole_text else query.header,
        )
        x, group_scores = _score_group(decoder, x, params, group, cache, rows, plan.prefix_length)
        if group_scores is not None:
            scores.append(group_scores)
    return tuple(scores)


def _score_group(
    decoder: Qwen2Decoder,
    x: Array,
    params: Any,
    group: WindowLayerGroup,
    cache: WindowCache,
    rows: TextRows,
    prefix_length: int,
) -> tuple[Array, Array | None]:
    batch, slots = x.shape[0], cache.key.shape[2]
    clips_end = slots - group.leftover
    cached_rotated = decoder.rotation(jnp.broadcast_to(jnp.arange(slots), (batch, slots)))
    rotated = decoder.rotation(
        jnp.broadcast_to(slots + jnp.arange(x.shape[1]), (batch, x.shape[1]))
    )
    text_length = jnp.zeros((batch,), jnp.int32)

    def body(x: Array, layer: Any) -> Any:
        layer_params, state = layer

        def attend(query: Array, key: Array, value: Array) -> Any:
            out = cached_attention(
                rotated(query),
                (cached_rotated(state.key), state.value),
                None,
                (rotated(key), value),
                text_length,
                implementation=decoder.kernels.cached_attention,
            )
            if group.segments is None:
                return out, None
            return out, clip_scores(
                jnp.concatenate([state.tail_query, query], axis=1),
                state.key[:, :prefix_length],
                state.key[:, prefix_length:clips_end],
                jnp.concatenate([state.key[:, clips_end:], key], axis=1),
                segments=group.segments,
                rows=rows,
                rope_theta=rope_base(decoder.config.rope_theta, decoder.config.yarn_factor),
                implementation=decoder.kernels.clip_scores,
            )

        return decoder.layer.apply({"params": layer_params}, x, attend)

    return lax.scan(body, x, (params, cache))
