"""Next-token loss over the text of a sequence whose video was compressed on the way.

Labels of visual tokens are always ignored, so that logits are computed at text rows and at one
more: the last visual token, which predicts the first token after the video. Float32 throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import optax
from jax import Array

from xcomp_jax.models.decoder_state import PrefillOutput
from xcomp_jax.text.prompts import IGNORE


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


def next_token_loss(
    logits: Callable[[Array], Array],
    out: PrefillOutput,
    prefix_labels: Array,
    suffix_labels: Array,
    *,
    average: Literal["tokens", "examples"] = "tokens",
) -> Array:
    """Mean cross entropy, scalar float32; `average` as in `StageConfig.loss_average`."""
    rows, targets = rows_and_targets(out, prefix_labels, suffix_labels)
    counted = targets != IGNORE
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits(rows).astype(jnp.float32), jnp.where(counted, targets, 0)
    )
    losses = jnp.where(counted, losses, 0.0)
    if average == "tokens":
        return jnp.sum(losses) / jnp.maximum(jnp.sum(counted), 1)
    per_example = jnp.sum(losses, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1)
    return jnp.mean(per_example)
