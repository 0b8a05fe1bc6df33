"""Computes one optimizer step, with compression in the forward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xcomp_jax.config import ConfigError, ModelConfig, StageConfig
from xcomp_jax.models import apply
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp, abstract_params
from xcomp_jax.sharding import (
    VIDEO_FIELDS,
    batch_split,
    constrained,
    constrained_parameters,
    parameter_shardings,
)
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.training.encoding import visual_tokens
from xcomp_jax.training.lora import init_adapters, scale_adapters
from xcomp_jax.training.loss import has_labels, next_token_loss
from xcomp_jax.training.optimizer import learning_rate, make_optimizer

Batch = dict[str, Array]


@flax.struct.dataclass
class TrainState:
    """Training state: `step` optimizer steps done, `params` of all parts, `opt_state` of the
    learned parts only."""

    step: Array
    params: Params
    opt_state: Any


def text_loss(
    model: XComp, stage: StageConfig, params: Params, visual: Array, batch: Batch
) -> Array:
    """Returns the mean next-token loss of a (micro) batch with visual tokens [B, V, D]."""
    out = apply.prefill(
        model,
        scale_adapters(stage, params),
        batch["prefix_ids"],
        visual,
        batch["suffix_ids"],
        _lengths(model, batch),
        remat=stage.remat,
    )
    return next_token_loss(
        apply.output_table(model, params),
        out,
        batch["prefix_labels"],
        batch["suffix_labels"],
        average=stage.loss_average,
    )


def _lengths(model: XComp, batch: Batch) -> Lengths:
    return Lengths(
        prefix=batch["prefix_len"],
        visual=batch["num_frames"] * model.config.projector.tokens_per_frame,
        suffix=batch["suffix_len"],
    )


def learned_params(stage: StageConfig, params: Params) -> Params:
    """Returns the parts of a parameter tree that `stage` trains."""
    return {part: params[part] for part in stage.learned_parts}


def loss_and_grads(
    model: XComp, stage: StageConfig, params: Params, batch: Batch
) -> tuple[Array, Params]:
    """Returns the loss and the gradients of the learned parts, over all micro batches."""

    def loss_fn(learned: Params, micro: Batch) -> Array:
        whole = {**params, **learned}
        visual = visual_tokens(model, stage, whole, micro)
        return text_loss(model, stage, whole, visual, micro)

    def value_and_grad(micro: Batch) -> tuple[Array, Params]:
        loss, grads = jax.value_and_grad(loss_fn)(learned_params(stage, params), micro)
        return loss, constrained_parameters(grads)

    if stage.accumulate_steps == 1:
        return value_and_grad(batch)
    # A micro batch takes every n-th example of the batch, so that no example changes its device.
    micros = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(-1, stage.accumulate_steps, *x.shape[1:]), 0, 1), batch
    )

    def accumulate(total: Any, item: tuple[Array, Batch]) -> tuple[Any, None]:
        weight, micro = item
        return jax.tree.map(lambda x, y: x + weight * y, total, value_and_grad(micro)), None

    zeros = jax.tree.map(jnp.zeros_like, learned_params(stage, params))
    initial = (jnp.zeros(()), constrained_parameters(zeros))
    total, _ = jax.lax.scan(accumulate, initial, (_micro_batch_weights(stage, micros), micros))
    return total


def _micro_batch_weights(stage: StageConfig, micros: Batch) -> Array:
    """Returns the weight of each micro batch in the loss, [accumulate_steps].

    Equal under `loss_average="tokens"`, else the share of the examples that have labels.
    """
    if stage.loss_average == "tokens":
        return jnp.full((stage.accumulate_steps,), 1 / stage.accumulate_steps)
    counted = jnp.sum(has_labels(micros["prefix_labels"], micros["suffix_labels"]), axis=1)
    return counted / jnp.maximum(jnp.sum(counted), 1)


def train_step(
    model: XComp, stage: StageConfig, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Array]]:
    """Runs one optimizer step and returns the new state and scalar metrics.

    Metrics: loss; grad_norm before clipping; learning_rate of parts without a rate of their own;
    tokens entering the first decoder layer, without padding; label_tokens, the tokens that count in
    the loss; non_finite, 1 when loss or grad_norm is NaN or infinite, else 0.
    """
    loss, grads = loss_and_grads(model, stage, state.params, batch)
    before = learned_params(stage, state.params)
    updates, opt_state = make_optimizer(stage).update(grads, state.opt_state, before)
    params = {**state.params, **optax.apply_updates(before, updates)}
    norm = optax.tree.norm(grads)
    labels = (batch["prefix_labels"], batch["suffix_labels"])
    metrics = {
        "loss": loss,
        "grad_norm": norm,
        "learning_rate": learning_rate(stage, state.step),
        "tokens": jnp.sum(_lengths(model, batch).total),
        "label_tokens": sum(jnp.sum(part != IGNORE) for part in labels),
        "non_finite": 1 - (jnp.isfinite(loss) & jnp.isfinite(norm)).astype(jnp.int32),
    }
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics


def init_state(stage: StageConfig, params: Params) -> TrainState:
    """Returns the state before the first step of `stage`, with new adapters if it trains those."""
    if stage.lora is not None:
        params = {**params, "lora": init_adapters(stage.lora, params)}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(stage).init(learned_params(stage, params)),
    )


def state_shardings(config: ModelConfig, stage: StageConfig, mesh: Any) -> Any:
    """Returns a TrainState of shardings; optimizer moments are sharded like their parameter."""
    state = jax.eval_shape(functools.partial(init_state, stage), abstract_params(config))
    shardings = parameter_shardings(state.params, mesh)
    replicated = NamedSharding(mesh, PartitionSpec())
    state_type: Any = TrainState  # holds shardings here in place of arrays
    return state_type(
        step=replicated,
        params=shardings,
        opt_state=optax.tree_utils.tree_map_params(
            make_optimizer(stage),
            lambda _, sharding: sharding,
            state.opt_state,
            learned_params(stage, shardings),
            transform_non_params=lambda _: replicated,
        ),
    )


def check_micro_batches(stage: StageConfig, mesh: Mesh) -> None:
    """Raises ConfigError when the devices of `mesh` cannot share a micro batch."""
    micro, split = stage.batch_size // stage.accumulate_steps, batch_split(mesh)
    if micro < 1 or micro % split:
        raise ConfigError(
            f"stage {stage.name!r}: micro batches of {micro} examples (batch_size="
            f"{stage.batch_size}, accumulate_steps={stage.accumulate_steps}) cannot be split over "
            f"data x fsdp = {split}; lower accumulate_steps, or move devices to mesh.context or "
            "mesh.tensor, or set mesh.fsdp, mesh.context and accumulate_steps to -1, which "
            "config.on_devices resolves"
        )


def make_train_step(
    config: ModelConfig, stage: StageConfig, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """Returns the jitted step on `mesh`, which donates the state.

    Batches come from `sharding.global_batch`.

    Raises:
        ConfigError: a micro batch cannot be split over the mesh.
    """
    check_micro_batches(stage, mesh)
    shardings = state_shardings(config, stage, mesh)
    replicated = NamedSharding(mesh, PartitionSpec())

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        # The model reads the mesh while it is traced, to place its sharding constraints.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            batch = {
                name: constrained(field, context=1 if name in VIDEO_FIELDS else None)
                for name, field in batch.items()
            }
            return train_step(XComp(config), stage, state, batch)

    return jax.jit(
        step,
        in_shardings=(shardings, None),
        out_shardings=(shardings, replicated),
        donate_argnums=0,
    )
