"""Tests the next-token loss: averages, padding, vocabulary chunks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.parity.cases import assert_parity
from tests.tiny import tiny_params
from tests.training.tiny_batches import MODEL, STAGE, stored_of
from xcomp_jax.models.xcomp import Params
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.training.encoding import visual_tokens
from xcomp_jax.training.loss import MIN_CHUNK, VOCAB_CHUNKS, cross_entropy
from xcomp_jax.training.step import text_loss


@jax.jit
def losses(params: Params, batch: dict[str, Any]) -> dict[str, jax.Array]:
    """Returns the loss under both averages."""
    visual = visual_tokens(MODEL, STAGE, params, batch)
    stages = (dataclasses.replace(STAGE, loss_average=name) for name in ("tokens", "examples"))
    return {s.loss_average: text_loss(MODEL, s, params, visual, batch) for s in stages}


def test_loss_averages_label_tokens_or_examples() -> None:
    params, batch = tiny_params(), stored_of(4)
    got = losses(params, batch)
    # A batch of one repeated example: both averages are the loss of that example.
    single = [{name: value[[i] * 4] for name, value in batch.items()} for i in range(4)]
    each = np.array([losses(params, one)["tokens"] for one in single])
    # Every label counts: the last visual token predicts the first suffix token.
    counts = (batch["suffix_labels"] != IGNORE).sum(axis=1)
    assert len(set(counts.tolist())) > 1, "control: the averages differ for this batch"
    np.testing.assert_allclose(got["tokens"], (each * counts).sum() / counts.sum(), rtol=1e-5)
    np.testing.assert_allclose(got["examples"], each.mean(), rtol=1e-5)
    # An unreadable example has no labels and does not lower the mean.
    for field in ("prefix_labels", "suffix_labels"):
        batch[field][3] = IGNORE
    got = losses(params, batch)
    np.testing.assert_allclose(
        got["tokens"], (each * counts)[:3].sum() / counts[:3].sum(), rtol=1e-5
    )
    np.testing.assert_allclose(got["examples"], each[:3].mean(), rtol=1e-5)


def test_loss_with_more_padding_is_unchanged() -> None:
    params, batch = tiny_params(), stored_of(4)
    wider = {
        **batch,
        "suffix_ids": np.pad(batch["suffix_ids"], ((0, 0), (0, 7)), constant_values=3),
        "suffix_labels": np.pad(batch["suffix_labels"], ((0, 0), (0, 7)), constant_values=IGNORE),
    }
    got, want = losses(params, wider), losses(params, batch)
    np.testing.assert_allclose(got["tokens"], want["tokens"], rtol=1e-5)


def test_cross_entropy_chunked_matches_optax() -> None:
    rng = np.random.default_rng(0)
    vocab = MIN_CHUNK * VOCAB_CHUNKS
    rows, table = (
        jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 5, 8), (vocab, 8))
    )
    targets = jnp.asarray(rng.integers(0, vocab, (2, 5)))
    weights = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)

    def plain(rows: jax.Array, table: jax.Array, targets: jax.Array) -> jax.Array:
        logits = 3 * rows @ table.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    def chunked(rows: jax.Array, table: jax.Array, targets: jax.Array) -> jax.Array:
        return cross_entropy(3 * rows, table, targets)

    def value_and_gradients(loss: Any, targets: jax.Array) -> list[jax.Array]:
        out, back = jax.vjp(lambda r, t: loss(r, t, targets), rows, table)
        return [out, *back(weights)]

    wrong = value_and_gradients(plain, (targets + 1) % vocab)
    for got, want, control in zip(
        value_and_gradients(chunked, targets),
        value_and_gradients(plain, targets),
        wrong,
        strict=True,
    ):
        assert_parity(got, want, atol=2e-5, control=control)


def test_cross_entropy_gradient_stores_no_full_logits() -> None:
    shapes = [jax.ShapeDtypeStruct(size, jnp.float32) for size in ((1, 300, 8), (16384, 8))]
    targets = jax.ShapeDtypeStruct((1, 300), jnp.int32)
    grad = jax.jit(jax.grad(lambda *x: cross_entropy(*x).sum(), argnums=(0, 1)))
    used = grad.lower(*shapes, targets).compile().memory_analysis().temp_size_in_bytes
    assert used < 300 * 16384 * 4 / 2
