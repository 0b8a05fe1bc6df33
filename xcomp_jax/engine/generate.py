"""Decoding: choosing tokens one after another as one compiled loop.

The order of the score processors and the scope of the repetition penalty (only tokens generated so
far, because the prompt enters as embeddings) are those of the original's generation library
(facts: evaluation settings).
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
from xcomp_jax.models.xcomp import Params, XComp

NEVER = -jnp.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How tokens are chosen. `temperature=0` is greedy; `top_p=1` and `top_k=0` switch those
    off."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, valid, rule in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("repetition_penalty", self.repetition_penalty > 0, "positive"),
        ):
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)} must be {rule}")


def greedy_as_evaluated(folder: Path, max_new_tokens: int = 64) -> GenerationConfig:
    """Greedy decoding with what the published evaluation leaves active of `generation_config.json`.

    It overrides sampling but neither the repetition penalty nor the end tokens. A folder without
    the file gives plain greedy decoding.
    """
    path = folder / "generation_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    eos = values.get("eos_token_id")
    listed = [] if eos is None else eos if isinstance(eos, list) else [eos]
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        repetition_penalty=float(values.get("repetition_penalty") or 1.0),
        eos_token_ids=tuple(listed),
    )


@flax.struct.dataclass
class Generated:
    """ids [B, M] int32 (after the end token: that token again); count [B], tokens up to and
    including the end token; text: the keys given, with those of all these tokens but the last;
    logits, scores: per step [B, M, vocab] before and after processing, or None."""

    ids: Array
    count: Array
    text: TextCache
    logits: Array | None
    scores: Array | None


@flax.struct.dataclass
class _State:
    step: Array  # tokens chosen so far
    text: TextCache
    seen: Array  # B vocab bool
    done: Array  # B bool
    ids: Array
    count: Array
    key: Array
    record: tuple[Array, Array] | None


def process_scores(
    logits: Array, seen: Array, *, temperature: Array, top_p: Array, top_k: Array, penalty: Array
) -> Array:
    """Raw logits [B, vocab] to the scores a token is drawn from; greedy leaves the filters out.

    Args:
        seen: [B, vocab] bool, tokens generated so far.
        penalty: positive scores of seen tokens are divided by it, negative ones multiplied.
    """
    penalised = jnp.where(logits < 0, logits * penalty, logits / penalty)
    scores = jnp.where(seen, penalised, logits)

    def filtered() -> Array:
        warm = scores / temperature
        descending = -jnp.sort(-warm, axis=-1)
        place = jnp.clip(jnp.where(top_k > 0, top_k, warm.shape[-1]) - 1, 0, warm.shape[-1] - 1)
        least = jax.lax.dynamic_index_in_dim(descending, place, axis=1)
        descending = jnp.where(descending >= least, descending, NEVER)
        probabilities = jax.nn.softmax(descending, axis=-1)
        # A token stays while the ones before it have not reached top_p; the first always stays.
        stays = jnp.cumsum(probabilities, axis=-1) - probabilities < top_p
        least = jnp.min(jnp.where(stays, descending, jnp.inf), axis=-1, keepdims=True)
        return jnp.where(warm >= least, warm, NEVER)

    return jax.lax.cond(temperature > 0, filtered, lambda: scores)


@functools.partial(jax.jit, static_argnames=("model", "max_new_tokens", "record"))
def _generate(
    model: XComp,
    params: Params,
    first_logits: Array,
    cache: tuple[LayerGroupCache, ...],
    text: TextCache | None,
    written: Array,
    settings: dict[str, Any],
    key: Array,
    *,
    max_new_tokens: int,
    record: bool,
) -> Generated:
    batch, vocab = first_logits.shape

    def choose(logits: Array, state: _State) -> _State:
        scores = process_scores(
            logits,
            state.seen,
            temperature=settings["temperature"],
            top_p=settings["top_p"],
            top_k=settings["top_k"],
            penalty=settings["repetition_penalty"],
        )
        key, draw = jax.random.split(state.key)
        token = jax.lax.cond(
            settings["temperature"] > 0,
            lambda: jax.random.categorical(draw, scores),
            lambda: jnp.argmax(scores, axis=-1),
        ).astype(jnp.int32)
        previous = state.ids[:, jnp.maximum(state.step - 1, 0)]
        token = jnp.where(state.done, previous, token)
        ended = jnp.any(token[:, None] == settings["eos_token_ids"][None, :], axis=-1)
        kept = state.record
        if kept is not None:
            kept = (
                kept[0].at[:, state.step].set(logits),
                kept[1].at[:, state.step].set(scores),
            )
        return dataclasses.replace(
            state,
            step=state.step + 1,
            seen=state.seen.at[jnp.arange(batch), token].set(True),
            count=state.count + ~state.done,
            done=state.done | ended,
            ids=state.ids.at[:, state.step].set(token),
            key=key,
            record=kept,
        )

    def body(state: _State) -> _State:
        token = state.ids[:, state.step - 1, None]
        place = written + state.step - 1
        hidden, text = apply.extend(model, params, token, place, cache, state.text)
        logits = apply.logits(model, params, hidden[:, 0])
        return choose(logits, dataclasses.replace(state, text=text))

    if text is None:
        text = apply.empty_text_cache(model, params, batch, max_new_tokens)
    empty = jnp.zeros((batch, max_new_tokens, vocab)) if record else None
    state = _State(
        step=jnp.zeros((), jnp.int32),
        text=text,
        seen=jnp.zeros((batch, vocab), bool),
        done=jnp.zeros((batch,), bool),
        ids=jnp.zeros((batch, max_new_tokens), jnp.int32),
        count=jnp.zeros((batch,), jnp.int32),
        key=key,
        record=None if empty is None else (empty, empty),
    )
    state = jax.lax.while_loop(
        lambda s: (s.step < max_new_tokens) & ~jnp.all(s.done), body, choose(first_logits, state)
    )
    # Places the loop never reached repeat the end token, like those after it.
    last = jnp.take_along_axis(state.ids, jnp.maximum(state.count - 1, 0)[:, None], axis=1)
    ids = jnp.where(jnp.arange(max_new_tokens)[None, :] < state.count[:, None], state.ids, last)
    logits, scores = state.record if state.record is not None else (None, None)
    return Generated(ids=ids, count=state.count, text=state.text, logits=logits, scores=scores)


def generate(
    model: XComp,
    params: Params,
    first_logits: Array,
    cache: tuple[LayerGroupCache, ...],
    config: GenerationConfig,
    *,
    text: TextCache | None = None,
    written: Array | None = None,
    seed: int = 0,
    record: bool = False,
) -> Generated:
    """Decodes after a prefill; compiled once per cache shape and `max_new_tokens`.

    Args:
        first_logits: [B, vocab] float32 at the last prompt token.
        cache: from `PrefillOutput.cache` or `XComp.watch`.
        text: keys of text that already follows the cache, with room for `config.max_new_tokens`
            more; `written` [B]: how many tokens of it are real. Default: none.
        record: also return every step's logits and scores (memory: M x vocab).
    """
    # At least one entry, so that the compiled shape does not depend on there being an end token.
    eos = config.eos_token_ids or (-1,)
    settings = {
        "temperature": jnp.float32(config.temperature),
        "top_p": jnp.float32(config.top_p),
        "top_k": jnp.int32(config.top_k),
        "repetition_penalty": jnp.float32(config.repetition_penalty),
        "eos_token_ids": jnp.asarray(eos, jnp.int32),
    }
    return _generate(
        model,
        params,
        first_logits,
        cache,
        text,
        jnp.zeros(first_logits.shape[0], jnp.int32) if written is None else written,
        settings,
        jax.random.key(seed),
        max_new_tokens=config.max_new_tokens,
        record=record,
    )
