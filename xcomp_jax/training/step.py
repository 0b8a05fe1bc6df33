"""One optimiser step: gradients of a batch with compression in the forward pass."""

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

from xcomp_jax.config import ModelConfig, StageConfig
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp, abstract_params, run
from xcomp_jax.sharding import BATCH, parameter_shardings
from xcomp_jax.training.loss import next_token_loss
from xcomp_jax.training.optimizer import learning_rate, make_optimizer
from xcomp_jax.video.normalize import normalize

Batch = dict[str, Array]

# Clips encoded at a time when the encoder is frozen: nothing of it is kept for a backward pass.
FROZEN_CLIPS_PER_CALL = 32


@flax.struct.dataclass
class TrainState:
    """step: optimiser steps done; params: all parts; opt_state: for the trainable parts only."""

    step: Array
    params: Params
    opt_state: Any


def visual_tokens(model: XComp, stage: StageConfig, params: Params, batch: Batch) -> Array:
    """[B, F * tokens_per_frame, D] embeddings of the batch's frames [B, F, S, S, 3] uint8.

    The fields of a batch are described in `data.pipeline`.
    """
    config = model.config
    frames = batch["frames"]
    batch_size, num_frames = frames.shape[:2]
    clip = config.vision.clip_frames
    if num_frames % clip:
        raise ValueError(f"{num_frames=} must be a multiple of vision.clip_frames={clip}")
    clips = frames.reshape(-1, clip, *frames.shape[2:])

    def features(some: Array) -> Array:
        return run(model, params, "vision_features", normalize(some))

    if "vision" in stage.trainable or clips.shape[0] <= FROZEN_CLIPS_PER_CALL:
        encoded = features(clips)
    else:
        encoded = jax.lax.map(
            lambda one: features(one[None])[0], clips, batch_size=FROZEN_CLIPS_PER_CALL
        )
    tokens = run(model, params, "project", encoded)
    tokens = tokens.reshape(batch_size, -1, tokens.shape[-1])
    if stage.projector_learns_below_frames is not None:
        learns = batch["num_frames"] < stage.projector_learns_below_frames
        tokens = jnp.where(learns[:, None, None], tokens, jax.lax.stop_gradient(tokens))
    return tokens


def text_loss(
    model: XComp, stage: StageConfig, params: Params, visual: Array, batch: Batch
) -> Array:
    """Mean next-token loss given the visual tokens [B, V, D] of a (micro) batch."""
    lengths = Lengths(
        prefix=batch["prefix_len"],
        visual=batch["num_frames"] * model.config.projector.tokens_per_frame,
        suffix=batch["suffix_len"],
    )
    out = run(
        model,
        params,
        "prefill",
        batch["prefix_ids"],
        visual,
        batch["suffix_ids"],
        lengths,
        remat=stage.remat,
    )
    return next_token_loss(
        functools.partial(run, model, params, "logits"),
        out,
        batch["prefix_labels"],
        batch["suffix_labels"],
        average=stage.loss_average,
    )


def loss_and_grads(
    model: XComp, stage: StageConfig, params: Params, batch: Batch
) -> tuple[Array, Params]:
    """Loss and gradients of the trainable parts, averaged over `stage.accumulate_steps`."""
    trainable = {name: params[name] for name in stage.trainable}

    def loss_fn(trainable: Params, micro: Batch) -> Array:
        whole = {**params, **trainable}
        visual = visual_tokens(model, stage, whole, micro)
        return text_loss(model, stage, whole, visual, micro)

    value_and_grad = jax.value_and_grad(loss_fn)
    if stage.accumulate_steps == 1:
        return value_and_grad(trainable, batch)
    # Example i of a micro batch is strided through the batch, which keeps every shard where it is.
    micros = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(-1, stage.accumulate_steps, *x.shape[1:]), 0, 1), batch
    )

    def accumulate(total: Any, micro: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, value_and_grad(trainable, micro)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trainable))
    total, _ = jax.lax.scan(accumulate, zero, micros)
    return jax.tree.map(lambda x: x / stage.accumulate_steps, total)


def train_step(
    model: XComp, stage: StageConfig, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Array]]:
    """One step; metrics are loss, grad_norm (before clipping) and learning_rate."""
    loss, grads = loss_and_grads(model, stage, state.params, batch)
    trainable = {name: state.params[name] for name in stage.trainable}
    updates, opt_state = make_optimizer(stage).update(grads, state.opt_state, trainable)
    params = {**state.params, **optax.apply_updates(trainable, updates)}
    metrics = {
        "loss": loss,
        "grad_norm": optax.global_norm(grads),
        "learning_rate": learning_rate(stage, state.step),
    }
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics


def init_state(stage: StageConfig, params: Params) -> TrainState:
    """Fresh optimiser state around `params`."""
    trainable = {name: params[name] for name in stage.trainable}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(stage).init(trainable),
    )


def state_shardings(config: ModelConfig, stage: StageConfig, mesh: Mesh) -> Any:
    """A TrainState of shardings, one per leaf; optimiser moments follow their parameter."""
    params = abstract_params(config)
    shardings = parameter_shardings(params, mesh)
    replicated = NamedSharding(mesh, PartitionSpec())
    trainable = {name: shardings[name] for name in stage.trainable}
    opt_state = jax.eval_shape(lambda p: init_state(stage, p).opt_state, params)
    where: Any = TrainState  # holds shardings here in place of arrays
    return where(
        step=replicated,
        params=shardings,
        opt_state=optax.tree_utils.tree_map_params(
            make_optimizer(stage),
            lambda _, sharding: sharding,
            opt_state,
            trainable,
            transform_non_params=lambda _: replicated,
        ),
    )


def make_train_step(
    config: ModelConfig, stage: StageConfig, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """The jitted step on `mesh`: state in place, batch split over data and fsdp."""
    shardings = state_shardings(config, stage, mesh)
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.jit(
        functools.partial(train_step, XComp(config), stage),
        in_shardings=(shardings, NamedSharding(mesh, BATCH)),
        out_shardings=(shardings, replicated),
        donate_argnums=0,
    )
