"""Builds AdamW with the published learning-rate schedule (docs/reference_behaviour.md#training)."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from xcomp_jax.config import StageConfig


def warmup_steps(stage: StageConfig) -> int:
    """Returns the warm-up length, rounded up: 0.03 of 2,247 steps gives 68."""
    return math.ceil(stage.warmup_ratio * stage.num_steps)


def learning_rate(stage: StageConfig, step: Array | int) -> Array:
    """Returns the rate of optimizer step `step` (from 0): linear warm-up, then cosine to zero.

    With any warm-up the first step has rate 0, as in the original
    (docs/reference_behaviour.md#training).
    """
    return stage.learning_rate * _schedule(stage, step)


def _schedule(stage: StageConfig, step: Array | int) -> Array:
    warmup = warmup_steps(stage)
    step = jnp.asarray(step, jnp.float32)
    rising = step / max(1, warmup)
    progress = (step - warmup) / max(1, stage.num_steps - warmup)
    falling = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return jnp.where(step < warmup, rising, falling)


def part_rate(stage: StageConfig, part: str) -> float:
    """Returns the peak rate of a part of the model; adapters use that of the language model."""
    rate = getattr(stage.learning_rates, "llm" if part == "lora" else part)
    return stage.learning_rate if rate is None else rate


def make_optimizer(stage: StageConfig) -> optax.GradientTransformation:
    """Builds gradient clipping over all parts, then AdamW with one peak rate per part.

    Parameters are a dict of parts. The state has the dtype of the parameters (float32).
    """

    def multiply_by_rates(updates: Any, params: Any) -> Any:
        del params
        return {
            part: optax.tree.scale(part_rate(stage, part), tree) for part, tree in updates.items()
        }

    return optax.chain(
        optax.clip_by_global_norm(stage.max_grad_norm),
        optax.adamw(
            lambda step: _schedule(stage, step),
            b1=stage.beta1,
            b2=stage.beta2,
            eps=stage.eps,
            weight_decay=stage.weight_decay,
        ),
        optax.stateless(multiply_by_rates),
    )
