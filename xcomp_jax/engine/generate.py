"""Generates tokens in one compiled loop.

The order of the score processors and the scope of the repetition penalty (generated tokens only,
because the prompt enters as embeddings) are those of the original's generation library
(docs/reference_behaviour.md#generation).
"""

from __future__ import annotations

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.engine.placement import replicated
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
from xcomp_jax.models.xcomp import Params, XComp

EXCLUDED = -jnp.inf


@flax.struct.dataclass
class Generated:
    """Result of `generate`.

    ids: [B, M] int32, padded with each row's last token; count: [B] tokens up to and including the
    end token; text: text cache of the prompt's suffix and all generated tokens but the last;
    logits, scores: [B, M, vocab] of each step before and after processing, or None.
    """

    ids: Array
    count: Array
    text: TextCache
    logits: Array | None
    scores: Array | None


@flax.struct.dataclass
class _Settings:
    """`GenerationConfig` as arrays, so that changed values do not recompile."""

    temperature: Array
    top_p: Array
    top_k: Array
    repetition_penalty: Array
    eos_token_ids: Array

    @classmethod
    def of(cls, config: GenerationConfig) -> _Settings:
        return cls(
            temperature=jnp.float32(config.temperature),
            top_p=jnp.float32(config.top_p),
            top_k=jnp.int32(config.top_k),
            repetition_penalty=jnp.float32(config.repetition_penalty),
            # At least one entry, so that a model without end tokens uses the same program.
            eos_token_ids=jnp.asarray(config.eos_token_ids or (-1,), jnp.int32),
        )


@flax.struct.dataclass
class _State:
    """Loop state after `step` tokens.

    seen: [B, vocab] bool, generated tokens; record: logits and scores of each step.
    """

    step: Array
    text: TextCache
    seen: Array
    done: Array
    ids: Array
    count: Array
    key: Array
    record: tuple[Array, Array] | None


def process_scores(
    logits: Float[Array, "B vocab"],
    seen: Bool[Array, "B vocab"],
    *,
    temperature: Float[Array, ""],
    top_p: Float[Array, ""],
    top_k: Int[Array, ""],
    penalty: Float[Array, ""],
) -> Float[Array, "B vocab"]:
    """Turns logits [B, vocab] into the scores that the next token is sampled from.

    Greedy decoding applies only the penalty.

    Args:
        seen: [B, vocab] bool, tokens generated so far.
        penalty: divides positive scores of seen tokens and multiplies negative ones.
    """
    penalised = jnp.where(logits < 0, logits * penalty, logits / penalty)
    scores = jnp.where(seen, penalised, logits)

    def filtered() -> Array:
        scaled = scores / temperature
        vocab = scaled.shape[-1]
        descending = -jnp.sort(-scaled, axis=-1)
        last_rank = jnp.clip(jnp.where(top_k > 0, top_k, vocab) - 1, 0, vocab - 1)
        threshold = jax.lax.dynamic_index_in_dim(descending, last_rank, axis=1)
        descending = jnp.where(descending >= threshold, descending, EXCLUDED)
        probabilities = jax.nn.softmax(descending, axis=-1)
        # Keep a token while the tokens before it have not reached top_p; the first is always kept.
        kept = jnp.cumsum(probabilities, axis=-1) - probabilities < top_p
        threshold = jnp.min(jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True)
        return jnp.where(scaled >= threshold, scaled, EXCLUDED)

    return jax.lax.cond(temperature > 0, filtered, lambda: scores)


def _append_token(logits: Array, state: _State, settings: _Settings) -> _State:
    """Appends the next token of every row that has not reached an end token."""
    scores = process_scores(
        logits,
        state.seen,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        penalty=settings.repetition_penalty,
    )
    key, step_key = jax.random.split(state.key)
    token = jax.lax.cond(
        settings.temperature > 0,
        # One key for all rows, so that an answer does not depend on its row in the batch.
        lambda: jax.vmap(lambda row: jax.random.categorical(step_key, row))(scores),
        lambda: jnp.argmax(scores, axis=-1),
    ).astype(jnp.int32)
    previous = state.ids[:, jnp.maximum(state.step - 1, 0)]
    token = jnp.where(state.done, previous, token)
    is_end = jnp.any(token[:, None] == settings.eos_token_ids[None, :], axis=-1)
    record = state.record
    if record is not None:
        record = record[0].at[:, state.step].set(logits), record[1].at[:, state.step].set(scores)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        seen=state.seen.at[jnp.arange(token.shape[0]), token].set(True),
        count=state.count + ~state.done,
        done=state.done | is_end,
        ids=state.ids.at[:, state.step].set(token),
        key=key,
        record=record,
    )


@functools.partial(jax.jit, static_argnames=("model", "max_new_tokens", "record"))
def _generate(
    model: XComp,
    params: Params,
    first_logits: Array,
    cache: tuple[LayerGroupCache, ...],
    text: TextCache | None,
    text_length: Array,
    settings: _Settings,
    key: Array,
    *,
    max_new_tokens: int,
    record: bool,
) -> Generated:
    batch, vocab = first_logits.shape

    def body(state: _State) -> _State:
        token = state.ids[:, state.step - 1, None]
        position = text_length + state.step - 1
        hidden, text = apply.extend(model, params, token, position, cache, state.text)
        logits = apply.logits(model, params, hidden[:, 0])
        return _append_token(logits, dataclasses.replace(state, text=text), settings)

    if text is None:
        text = apply.empty_text_cache(model, params, batch, max_new_tokens)
    zeros = jnp.zeros((batch, max_new_tokens, vocab)) if record else None
    state = _State(
        step=jnp.zeros((), jnp.int32),
        text=text,
        seen=jnp.zeros((batch, vocab), bool),
        done=jnp.zeros((batch,), bool),
        ids=jnp.zeros((batch, max_new_tokens), jnp.int32),
        count=jnp.zeros((batch,), jnp.int32),
        key=key,
        record=None if zeros is None else (zeros, zeros),
    )
    state = jax.lax.while_loop(
        lambda s: (s.step < max_new_tokens) & ~jnp.all(s.done),
        body,
        _append_token(first_logits, state, settings),
    )
    # Slots that the loop did not reach repeat the end token, like the slots after it.
    last = jnp.take_along_axis(state.ids, jnp.maximum(state.count - 1, 0)[:, None], axis=1)
    ids = jnp.where(jnp.arange(max_new_tokens)[None, :] < state.count[:, None], state.ids, last)
    ids, count = replicated((ids, state.count))
    logits, scores = state.record if state.record is not None else (None, None)
    return Generated(ids=ids, count=count, text=state.text, logits=logits, scores=scores)


def generate(
    model: XComp,
    params: Params,
    first_logits: Float[Array, "B vocab"],
    cache: tuple[LayerGroupCache, ...],
    config: GenerationConfig,
    *,
    text: TextCache | None = None,
    text_length: Array | np.ndarray | None = None,
    seed: int = 0,
    record: bool = False,
) -> Generated:
    """Generates tokens after a prefill; compiles once per cache shape and `max_new_tokens`.

    Args:
        first_logits: [B, vocab] float32 of the last prompt token.
        cache: result of `programs.prefill` or `programs.prefill_video`.
        text: text cache after the video, with room for `config.max_new_tokens` more tokens;
            text_length [B]: its real tokens. Default: an empty cache.
        record: also return every step's logits and scores (memory: M x vocab).
    """
    return _generate(
        model,
        params,
        first_logits,
        cache,
        text,
        jnp.asarray(
            np.zeros(first_logits.shape[0], np.int32) if text_length is None else text_length
        ),
        _Settings.of(config),
        jax.random.key(seed),
        max_new_tokens=config.max_new_tokens,
        record=record,
    )
