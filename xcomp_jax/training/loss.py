"""Computes the next-token loss over the text of a sequence with compressed visual tokens.

Visual tokens have no labels, so logits are computed only at the text tokens and at the last visual
token, which predicts the first token after the video. Losses are float32.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from xcomp_jax.models.decoder_state import PrefillOutput
from xcomp_jax.sharding import constrained, mesh_sizes
from xcomp_jax.text.prompts import IGNORE

# Largest number of vocabulary chunks: 2,000 rows of 151,936 float32 logits would take 1.2 GB, and
# their gradient as much again. A vocabulary with chunks below MIN_CHUNK is not cut.
VOCAB_CHUNKS = 16
MIN_CHUNK = 1024


def rows_and_targets(
    out: PrefillOutput, prefix_labels: Array, suffix_labels: Array
) -> tuple[Array, Array]:
    """Returns the hidden rows [B, P + 1 + Q, D] that predict text and the label of each row.

    Args:
        prefix_labels [B, P], suffix_labels [B, Q]: aligned with the ids (not shifted), IGNORE on
            padding and on tokens that do not count.
    """
    last = jnp.maximum(out.lengths.visual - 1, 0)[:, None, None]
    last_visual = jnp.take_along_axis(out.visual, last, axis=1)
    rows = jnp.concatenate([out.prefix, last_visual, out.suffix], axis=1)
    ignored = jnp.full_like(prefix_labels[:, :1], IGNORE)
    targets = jnp.concatenate(
        [prefix_labels[:, 1:], ignored, suffix_labels[:, :1], suffix_labels[:, 1:], ignored], axis=1
    )
    return rows, targets


def cross_entropy(rows: Array, table: Array, targets: Array) -> Array:
    """Returns -log softmax(rows . table) at `targets` without storing all logits of a row.

    Scans the table in chunks, once forward and once backward. On a mesh, each chunk is gathered and
    its gradient reduced as often as the whole table would be without chunks.

    Args:
        rows: [B, R, D] in the dtype of the products, which are accumulated in float32.
        table: [vocab, D] output embeddings.
        targets: [B, R] token ids.

    Returns:
        [B, R] float32.
    """
    vocab, width = table.shape
    tensor = mesh_sizes().get("tensor", 1)
    chunks = math.gcd(vocab // tensor if vocab % tensor == 0 else vocab, VOCAB_CHUNKS)
    if vocab < MIN_CHUNK * chunks:
        chunks = 1
    # Id i is in chunk i % chunks, so that each chunk is spread evenly over the table's shards.
    stacked = jnp.moveaxis(table.astype(rows.dtype).reshape(-1, chunks, width), 1, 0)
    # Float32, so that the gradient of the rows is summed over the chunks in float32.
    dtype, rows = rows.dtype, rows.astype(jnp.float32)

    @jax.checkpoint  # without it, the logits of every chunk are stored for the backward pass
    def add_chunk(carry: tuple[Array, Array, Array], item: tuple[Array, Array]) -> tuple:
        largest, total, target_logit = carry
        number, chunk = item
        logits = jnp.einsum(
            "brd,vd->brv", rows.astype(dtype), chunk, preferred_element_type=jnp.float32
        )
        larger = jnp.maximum(largest, lax.stop_gradient(jnp.max(logits, axis=-1)))
        total = total * jnp.exp(largest - larger)
        total = total + jnp.sum(jnp.exp(logits - larger[..., None]), axis=-1)
        ids = jnp.arange(vocab // chunks) * chunks + number
        is_target = ids[None, None] == targets[..., None]
        target_logit = target_logit + jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
        return (larger, total, target_logit), None

    zeros = jnp.zeros(targets.shape, jnp.float32)
    initial = (jnp.full(targets.shape, -jnp.inf), zeros, zeros)
    (largest, total, target_logit), _ = lax.scan(add_chunk, initial, (jnp.arange(chunks), stacked))
    return largest + jnp.log(total) - target_logit


def has_labels(prefix_labels: Array, suffix_labels: Array) -> Array:
    """Returns bool [..., B]: False for an example without labels, such as an unreadable file.

    Args:
        prefix_labels [..., B, P], suffix_labels [..., B, Q]: as for `rows_and_targets`. The label
            of the first token does not count, because no token predicts it.
    """
    prefix = jnp.any(prefix_labels[..., 1:] != IGNORE, axis=-1)
    return prefix | jnp.any(suffix_labels != IGNORE, axis=-1)


@jax.named_scope("loss")
def next_token_loss(
    table: Array,
    out: PrefillOutput,
    prefix_labels: Array,
    suffix_labels: Array,
    *,
    average: Literal["tokens", "examples"] = "tokens",
) -> Array:
    """Returns the mean cross entropy, scalar float32; examples without labels do not count.

    Args:
        table: [vocab, D] output embeddings.
        average: see `StageConfig.loss_average`.
    """
    rows, targets = rows_and_targets(out, prefix_labels, suffix_labels)
    # Splits the rows over `context`, or each of its devices would compute all logits. They are
    # gathered first for the reason given at the end of `Qwen2Decoder.prefill`.
    padding = (0, -rows.shape[1] % mesh_sizes().get("context", 1))
    rows = constrained(jnp.pad(rows, ((0, 0), padding, (0, 0))))
    rows = constrained(rows, context=1)
    targets = jnp.pad(targets, ((0, 0), padding), constant_values=IGNORE)
    counted = targets != IGNORE
    losses = cross_entropy(rows, table, jnp.where(counted, targets, 0))
    losses = jnp.where(counted, losses, 0.0)
    if average == "tokens":
        return jnp.sum(losses) / jnp.maximum(jnp.sum(counted), 1)
    per_example = jnp.sum(losses, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1)
    return jnp.sum(per_example) / jnp.maximum(jnp.sum(has_labels(prefix_labels, suffix_labels)), 1)
