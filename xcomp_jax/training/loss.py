"""Next-token loss over the text of a sequence whose video was compressed on the way.

Labels of visual tokens are always ignored, so that logits are computed at text rows and at one
more: the last visual token, which predicts the first token after the video. Float32 throughout.
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

# Parts that the vocabulary is taken in, if it divides: 2,000 rows of 151,936 logits would take
# 1.2 GB in float32, and as much again for their gradient. Small vocabularies stay whole.
VOCAB_CHUNKS = 16
MIN_CHUNK = 1024


def rows_and_targets(
    out: PrefillOutput, prefix_labels: Array, suffix_labels: Array
) -> tuple[Array, Array]:
    """Hidden rows [B, P + 1 + Q, D] whose logits matter, and the label each one predicts.

    Args:
        prefix_labels [B, P], suffix_labels [B, Q]: aligned with the ids (not shifted), IGNORE where
            there is nothing to learn and on padding.
    """
    last = jnp.maximum(out.lengths.visual - 1, 0)[:, None, None]
    last_visual = jnp.take_along_axis(out.visual, last, axis=1)
    rows = jnp.concatenate([out.prefix, last_visual, out.suffix], axis=1)
    nothing = jnp.full_like(prefix_labels[:, :1], IGNORE)
    targets = jnp.concatenate(
        [prefix_labels[:, 1:], nothing, suffix_labels[:, :1], suffix_labels[:, 1:], nothing], axis=1
    )
    return rows, targets


def cross_entropy(rows: Array, table: Array, targets: Array) -> Array:
    """-log softmax(rows . table) at `targets`, without ever holding all logits of a row.

    The table goes by in chunks, once forward and once backward, so that on a mesh each of them is
    gathered, and its gradient reduced, no more often than without chunks.

    Args:
        rows: [B, R, D] in the dtype of the products, which are summed in float32.
        table: [vocab, D] output embeddings.
        targets: [B, R] ids in the vocabulary.

    Returns:
        [B, R] float32.
    """
    vocab, width = table.shape
    tensor = mesh_sizes().get("tensor", 1)
    chunks = math.gcd(vocab // tensor if vocab % tensor == 0 else vocab, VOCAB_CHUNKS)
    if vocab < MIN_CHUNK * chunks:
        chunks = 1
    # Id i is in chunk i % chunks: a chunk then has its share of every device's part of the table.
    stacked = jnp.moveaxis(table.astype(rows.dtype).reshape(-1, chunks, width), 1, 0)
    # So that their gradient is summed over the chunks in float32, whatever the products' dtype.
    dtype, rows = rows.dtype, rows.astype(jnp.float32)

    @jax.checkpoint  # or the backward pass would keep every chunk's logits
    def one_chunk(carry: tuple[Array, Array, Array], item: tuple[Array, Array]) -> tuple:
        largest, total, hit = carry
        number, part = item
        logits = jnp.einsum(
            "brd,vd->brv", rows.astype(dtype), part, preferred_element_type=jnp.float32
        )
        larger = jnp.maximum(largest, lax.stop_gradient(jnp.max(logits, axis=-1)))
        total = total * jnp.exp(largest - larger)
        total = total + jnp.sum(jnp.exp(logits - larger[..., None]), axis=-1)
        here = (jnp.arange(vocab // chunks) * chunks + number)[None, None] == targets[..., None]
        return (larger, total, hit + jnp.sum(jnp.where(here, logits, 0.0), axis=-1)), None

    nothing = jnp.zeros(targets.shape, jnp.float32)
    begin = (jnp.full(targets.shape, -jnp.inf), nothing, nothing)
    (largest, total, hit), _ = lax.scan(one_chunk, begin, (jnp.arange(chunks), stacked))
    return largest + jnp.log(total) - hit


def has_labels(prefix_labels: Array, suffix_labels: Array) -> Array:
    """Which examples teach something, bool [..., B]: one whose file could not be read does not.

    Args:
        prefix_labels [..., B, P], suffix_labels [..., B, Q]: as for `rows_and_targets`. Nothing
            predicts the very first token.
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
    """Mean cross entropy, scalar float32; `average` as in `StageConfig.loss_average`.

    Examples without labels do not count in either mean.

    Args:
        table: [vocab, D] output embeddings.
    """
    rows, targets = rows_and_targets(out, prefix_labels, suffix_labels)
    # Rows are shared out as well, or every device of `context` would compute all logits; from whole
    # ones, for the reason given at the end of `Qwen2Decoder.prefill`.
    filling = (0, -rows.shape[1] % mesh_sizes().get("context", 1))
    rows = constrained(jnp.pad(rows, ((0, 0), filling, (0, 0))))
    rows = constrained(rows, context=1)
    targets = jnp.pad(targets, ((0, 0), filling), constant_values=IGNORE)
    counted = targets != IGNORE
    losses = cross_entropy(rows, table, jnp.where(counted, targets, 0))
    losses = jnp.where(counted, losses, 0.0)
    if average == "tokens":
        return jnp.sum(losses) / jnp.maximum(jnp.sum(counted), 1)
    per_example = jnp.sum(losses, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1)
    return jnp.sum(per_example) / jnp.maximum(jnp.sum(has_labels(prefix_labels, suffix_labels)), 1)
