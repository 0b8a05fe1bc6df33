"""Compiled programs of continuous batching: rows join and leave a batch between short decode calls.

A row is one sequence that is being decoded. The cache of a batch is read-only; all other state
changes with every token.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from xcomp_jax.engine.generate import process_scores
from xcomp_jax.engine.placement import replicated
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
from xcomp_jax.models.xcomp import Params, XComp


@flax.struct.dataclass
class RowSettings:
    """Sampling settings of every row, [B] each; see `GenerationConfig`."""

    temperature: Array
    top_p: Array
    top_k: Array
    penalty: Array


@flax.struct.dataclass
class Rows:
    """State of B rows.

    text: text cache; length [B]: its real tokens. token [B]: last token of each row, not yet in the
    text cache. remaining [B]: tokens that may still be generated. done [B]: rows that have ended,
    or are free. seen [B, vocab]: generated tokens. key [B]: random keys.
    """

    text: TextCache
    length: Array
    token: Array
    remaining: Array
    done: Array
    seen: Array
    key: Array
    settings: RowSettings


@functools.partial(jax.jit, static_argnames="model")
def admit(
    model: XComp,
    params: Params,
    caches: tuple[tuple[LayerGroupCache, ...], ...],
    texts: tuple[TextCache, ...],
    ids: Int[Array, "B Q"],
    length: Int[Array, " B"],
    text_length: Int[Array, " B"],
    remaining: Int[Array, " B"],
    seed: Array,
    settings: RowSettings,
    eos_ids: Int[Array, " E"],
) -> tuple[tuple[LayerGroupCache, ...], Rows]:
    """Appends the text of B sequences to their caches and chooses the first token of each.

    Args:
        caches, texts: of one sequence each; only the first row of a cache is read.
        length: real tokens of `ids`; text_length: tokens that each text already holds.
        remaining: maximum number of tokens to generate.

    Returns:
        The caches as one batch, and the rows.
    """
    cache = jax.tree.map(_joined, *caches)
    text = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *texts)
    hidden, text = apply.extend(model, params, ids, text_length, cache, text)
    last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)[:, 0]
    logits = apply.logits(model, params, last)
    batch, vocab = logits.shape
    rows = Rows(
        text=text,
        length=text_length + length,
        token=jnp.zeros((batch,), jnp.int32),
        remaining=remaining,
        done=jnp.zeros((batch,), bool),
        seen=jnp.zeros((batch, vocab), bool),
        key=jax.vmap(jax.random.key)(seed),
        settings=settings,
    )
    return cache, _with_token(rows, logits, eos_ids)


@functools.partial(jax.jit, static_argnames=("model", "max_steps"), donate_argnames="rows")
def decode(
    model: XComp,
    params: Params,
    cache: tuple[LayerGroupCache, ...],
    rows: Rows,
    steps: Int[Array, ""],
    eos_ids: Int[Array, " E"],
    *,
    max_steps: int,
) -> tuple[Rows, Int[Array, "B K"], Int[Array, " B"]]:
    """Generates up to `steps` tokens for every row that is not done.

    Returns:
        The rows, the new tokens [B, max_steps], and the number [B] of them for each row.
    """
    batch = rows.token.shape[0]

    def body(state: tuple[Array, Rows, Array, Array]) -> tuple[Array, Rows, Array, Array]:
        step, rows, tokens, count = state
        active = ~rows.done
        hidden, text = apply.extend(
            model, params, rows.token[:, None], rows.length, cache, rows.text
        )
        logits = apply.logits(model, params, hidden[:, 0])
        rows = dataclasses.replace(rows, text=text, length=rows.length + active)
        rows = _with_token(rows, logits, eos_ids)
        return step + 1, rows, tokens.at[:, step].set(rows.token), count + active

    _, rows, tokens, count = jax.lax.while_loop(
        lambda state: (state[0] < steps) & ~jnp.all(state[1].done),
        body,
        (
            jnp.zeros((), jnp.int32),
            rows,
            jnp.zeros((batch, max_steps), jnp.int32),
            jnp.zeros((batch,), jnp.int32),
        ),
    )
    return rows, *replicated((tokens, count))


@jax.jit
def take(
    cache: tuple[LayerGroupCache, ...], rows: Rows, index: Int[Array, " N"], done: Bool[Array, " N"]
) -> tuple[tuple[LayerGroupCache, ...], Rows]:
    """Returns the rows at `index` [N]; rows with `done` [N] become free."""
    cache = jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=_row_axis(leaf)), cache)
    rows = _map_rows(lambda leaf, axis: jnp.take(leaf, index, axis=axis), rows)
    return cache, dataclasses.replace(rows, done=rows.done | done)


@functools.partial(jax.jit, donate_argnums=(0, 1))
def place(
    cache: tuple[LayerGroupCache, ...],
    rows: Rows,
    new_cache: tuple[LayerGroupCache, ...],
    new_rows: Rows,
    index: Int[Array, " N"],
) -> tuple[tuple[LayerGroupCache, ...], Rows]:
    """Writes new rows over the rows at `index` [N]; an index past the end is skipped."""

    def write(leaf: Array, new: Array, axis: int) -> Array:
        if axis == 0:
            return leaf.at[index].set(new, mode="drop")
        return leaf.at[:, index].set(new, mode="drop")

    cache = jax.tree.map(lambda leaf, new: write(leaf, new, _row_axis(leaf)), cache, new_cache)
    return cache, _map_rows(lambda leaf, axis, new: write(leaf, new, axis), rows, new_rows)


@jax.jit
def text_of(rows: Rows, index: Int[Array, ""]) -> TextCache:
    """Returns the text cache of one row, with a batch dimension of 1."""
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index, 1, axis=1), rows.text
    )


def _with_token(rows: Rows, logits: Float[Array, "B vocab"], eos_ids: Array) -> Rows:
    """Chooses the next token of every row that is not done."""
    settings = rows.settings
    keys = jax.vmap(jax.random.split)(rows.key)

    def row_scores(
        logits: Array, seen: Array, temperature: Array, top_p: Array, top_k: Array, penalty: Array
    ) -> Array:
        return process_scores(
            logits[None],
            seen[None],
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            penalty=penalty,
        )[0]

    def scores(temperature: Array) -> Array:
        return jax.vmap(row_scores)(
            logits, rows.seen, temperature, settings.top_p, settings.top_k, settings.penalty
        )

    def greedy() -> Array:
        # The penalty alone; sorting the vocabulary is for sampled rows only.
        penalty = settings.penalty[:, None]
        penalised = jnp.where(logits < 0, logits * penalty, logits / penalty)
        return jnp.argmax(jnp.where(rows.seen, penalised, logits), axis=-1)

    def sampled() -> Array:
        warm = settings.temperature > 0
        values = scores(jnp.where(warm, settings.temperature, 1.0))
        return jnp.where(warm, jax.vmap(jax.random.categorical)(keys[:, 1], values), greedy())

    token = jax.lax.cond(jnp.any(settings.temperature > 0), sampled, greedy).astype(jnp.int32)
    token = jnp.where(rows.done, rows.token, token)
    remaining = rows.remaining - ~rows.done
    is_end = jnp.any(token[:, None] == eos_ids[None, :], axis=-1)
    return dataclasses.replace(
        rows,
        token=token,
        remaining=remaining,
        seen=rows.seen.at[jnp.arange(len(token)), token].set(True),
        done=rows.done | is_end | (remaining <= 0),
        key=keys[:, 0],
    )


def _joined(*leaves: Array) -> Array:
    axis = _row_axis(leaves[0])
    return jnp.concatenate(
        [jax.lax.slice_in_dim(leaf, 0, 1, axis=axis) for leaf in leaves], axis=axis
    )


def _row_axis(leaf: Array) -> int:
    """Returns the axis of rows: keys, values and their scales have layers in front."""
    return 1 if leaf.ndim >= 4 else 0


def _map_rows(function: Callable[..., Array], rows: Rows, *others: Rows) -> Rows:
    """Calls `function(leaf, row axis, *other leaves)` for every leaf."""
    text = jax.tree.map(
        lambda *leaves: function(leaves[0], 1, *leaves[1:]),
        rows.text,
        *(other.text for other in others),
    )
    nothing: Any = None
    empty = [dataclasses.replace(part, text=nothing) for part in (rows, *others)]
    rest = jax.tree.map(lambda *leaves: function(leaves[0], 0, *leaves[1:]), *empty)
    return dataclasses.replace(rest, text=text)
