"""Tests the training step: accumulation, learning rates, adapters, dtypes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.cases import assert_parity
from tests.tiny import tiny_params
from tests.training.tiny_batches import (
    FRAMES,
    MODEL,
    PREFIX,
    STAGE,
    assert_same_gradient,
    batch_of,
    stored_of,
)
from xcomp_jax.config import ConfigError, LoRAConfig, PartRates
from xcomp_jax.models.xcomp import XComp
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.training.encoding import visual_tokens
from xcomp_jax.training.lora import merge_adapters
from xcomp_jax.training.step import init_state, loss_and_grads, train_step

# All batches have four rows, so that tests with the same stage share a program.
graded = jax.jit(loss_and_grads, static_argnums=(0, 1))
stepped = jax.jit(train_step, static_argnums=(0, 1))


def test_accumulation_with_remat_averages_micro_batches() -> None:
    params, batch = tiny_params(), stored_of(8)
    accumulated = dataclasses.replace(STAGE, batch_size=8, accumulate_steps=2, remat=True)
    loss, grads = graded(MODEL, accumulated, params, batch)
    halves = [{name: value[i::2] for name, value in batch.items()} for i in range(2)]
    parts = jax.device_get([graded(MODEL, STAGE, params, half) for half in halves])
    np.testing.assert_allclose(loss, np.mean([part[0] for part in parts]), rtol=1e-5)
    assert_same_gradient(grads, jax.tree.map(lambda a, b: (a + b) / 2, parts[0][1], parts[1][1]))


def test_accumulation_examples_average_matches_one_batch() -> None:
    """Includes an unreadable example, which has no labels."""
    params, batch = tiny_params(), stored_of(8)
    for field in ("prefix_labels", "suffix_labels"):
        batch[field][3] = IGNORE
    whole = dataclasses.replace(STAGE, batch_size=8, loss_average="examples")
    parts = dataclasses.replace(whole, accumulate_steps=4)
    (loss, grads), (want, want_grads) = (
        graded(MODEL, stage, params, batch) for stage in (parts, whole)
    )
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    assert_same_gradient(grads, want_grads)
    by_tokens = dataclasses.replace(parts, loss_average="tokens")
    control, _ = graded(MODEL, by_tokens, params, batch)
    assert abs(control - want) > 1e-3


def test_train_step_parts_move_at_their_own_rate() -> None:
    stage = dataclasses.replace(
        STAGE,
        trainable=("vision", "projector", "llm"),
        learning_rates=PartRates(vision=2e-4),
        warmup_ratio=0.0,
    )
    params, batch = tiny_params(), batch_of(4)
    state, metrics = stepped(MODEL, stage, init_state(stage, params), batch)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), *jax.device_get((state.params, params)))
    distances = {part: jax.tree.leaves(tree) for part, tree in moved.items()}
    # Adam's first step has the size of the rate wherever the gradient is far above eps.
    for part, rate in (("vision", 2e-4), ("projector", 1e-3), ("llm", 1e-3)):
        assert min(distances[part]) > 0, part
        assert max(distances[part]) == pytest.approx(rate, rel=1e-3), part
    assert metrics["tokens"] == 4 * (PREFIX + FRAMES * 4) + batch["suffix_len"].sum()
    assert metrics["label_tokens"] == (batch["suffix_labels"] != IGNORE).sum()
    assert metrics["non_finite"] == 0
    broken = jax.tree.map(lambda x: x * np.nan, tiny_params())
    assert stepped(MODEL, stage, init_state(stage, broken), batch)[1]["non_finite"] == 1


def test_adapters_start_at_base_and_merge_into_it() -> None:
    # Without momentum and clipping, Adam's first moment is the gradient.
    stage = dataclasses.replace(
        STAGE,
        lora=LoRAConfig(rank=2, alpha=6.0),
        warmup_ratio=0.0,
        beta1=0.0,
        max_grad_norm=1e9,
    )
    initial = init_state(stage, tiny_params())
    base, _ = graded(MODEL, STAGE, tiny_params(), stored_of(4))
    state, metrics = stepped(MODEL, stage, initial, stored_of(4))
    np.testing.assert_allclose(metrics["loss"], base, rtol=1e-6)
    assert set(state.opt_state[1][0].mu) == {"projector", "lora"}
    for part in ("vision", "llm"):
        jax.tree.map(np.testing.assert_array_equal, state.params[part], initial.params[part])
    assert min(jax.tree.leaves(jax.tree.map(lambda x: np.abs(x).max(), state.params["lora"]))) > 0

    rng = np.random.default_rng(0)
    adapters = jax.tree.map(
        lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), initial.params["lora"]
    )
    params = {**initial.params, "lora": adapters}
    state, metrics = stepped(
        MODEL, stage, dataclasses.replace(initial, params=params), stored_of(4)
    )
    grads = state.opt_state[1][0].mu
    whole, full = graded(MODEL, STAGE, merge_adapters(stage, params), stored_of(4))
    assert_parity(metrics["loss"], whole, atol=2e-5, control=base)
    assert_same_gradient(grads["projector"], full["projector"], 1e-4)
    # d a = d kernel b' and d b = a' d kernel, both times alpha / rank.
    for block, name in (("self_attn", "k_proj"), ("mlp", "down_proj")):
        kernel, pair = full["llm"]["layers"][block][name]["kernel"], adapters[block][name]
        want = {
            "a": 3.0 * kernel @ jnp.swapaxes(pair["b"], 1, 2),
            "b": 3.0 * jnp.swapaxes(pair["a"], 1, 2) @ kernel,
        }
        assert_same_gradient(grads["lora"][block][name], want, 1e-4)


def test_state_in_bfloat16_computation_stays_float32() -> None:
    model = XComp(dataclasses.replace(MODEL.config, dtype="bfloat16"))
    stage = dataclasses.replace(STAGE, lora=LoRAConfig(), trainable=("vision", "llm"))
    state = jax.eval_shape(lambda: init_state(stage, tiny_params()))
    step = functools.partial(train_step, model, stage)
    after, metrics = jax.eval_shape(step, state, batch_of(4))
    assert after == state
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves((after, metrics))}
    assert kinds == {"float32", "int32"}
    visual = jax.eval_shape(lambda: visual_tokens(model, stage, tiny_params(), batch_of(4)))
    assert visual.dtype == jnp.bfloat16, "control: the computation is in bfloat16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": PartRates(vision=2e-6)}, r"names \['vision'\], which trainable="),
        ({"learning_rate": -1.0}, "must not be negative"),
        ({"lora": LoRAConfig(), "trainable": ("projector",)}, "add 'llm', or remove lora"),
    ],
)
def test_stage_config_invalid_field_raises(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(STAGE, **changes)
