"""AdamW with the published learning-rate curve (facts: optimizer recipe)."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from xcomp_jax.config import StageConfig


def warmup_steps(stage: StageConfig) -> int:
    """0.03 of 2,247 steps gives 68: rounded up."""
    return math.ceil(stage.warmup_ratio * stage.num_steps)


def learning_rate(stage: StageConfig, step: Array | int) -> Array:
    """Rate used by optimiser step `step` (from 0): linear warm-up, then half a cosine to zero.

    With any warm-up the very first step uses rate 0, as the original's scheduler does.
    """
    return stage.learning_rate * _curve(stage, step)


def _curve(stage: StageConfig, step: Array | int) -> Array:
    warmup = warmup_steps(stage)
    step = jnp.asarray(step, jnp.float32)
    rising = step / max(1, warmup)
    progress = (step - warmup) / max(1, stage.num_steps - warmup)
    falling = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return jnp.where(step < warmup, rising, falling)


def part_rate(stage: StageConfig, part: str) -> float:
    """Peak rate of a part of the model; adapters learn at that of the language model."""
    rate = getattr(stage.learning_rates, "llm" if part == "lora" else part)
    return stage.learning_rate if rate is None else rate


def make_optimizer(stage: StageConfig) -> optax.GradientTransformation:
    """Clipping by the norm over all parts, then AdamW, each part at its own rate.

    Parameters are a dict of parts. State is in the dtype of the parameters (float32).
    """

    def times_rates(updates: Any, params: Any) -> Any:
        del params
        return {
            part: optax.tree.scale(part_rate(stage, part), tree) for part, tree in updates.items()
        }

    return optax.chain(
        optax.clip_by_global_norm(stage.max_grad_norm),
        optax.adamw(
            lambda step: _curve(stage, step),
            b1=stage.beta1,
            b2=stage.beta2,
            eps=stage.eps,
            weight_decay=stage.weight_decay,
        ),
        optax.stateless(times_rates),
    )
