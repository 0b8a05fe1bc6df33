"""The training step of a configuration, ready to be compiled for a mesh that is not there."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from xcomp_jax.config import ModelConfig, StageConfig
from xcomp_jax.flops import training_flops
from xcomp_jax.launch.preflight.program import Program, device_bytes, placed
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.sharding import batch_sharding
from xcomp_jax.training.step import init_state, make_train_step, state_shardings

PREFIX_SLOTS = 16
"""Text before the video: the system turn and the beginning of the user's, rounded up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of one example, padding included: frames, and tokens before and after the video.

    encoded: batches hold what a store has of the encoder's work instead of pixels.
    """

    frames: int
    prefix: int
    suffix: int
    encoded: bool = False


def step_program(model: ModelConfig, stage: StageConfig, mesh: Mesh, sizes: Sizes) -> Program:
    """One optimiser step.

    Args:
        model: with the stage's compression.

    Raises:
        ConfigError: the mesh cannot split a micro batch.
    """
    step: Any = make_train_step(model, stage, mesh)
    state, batch = arguments(model, stage, mesh, sizes)
    flops = training_flops(
        model,
        stage,
        frames=sizes.frames,
        text=sizes.prefix + sizes.suffix,
        encoded=sizes.encoded,
    )
    return Program(
        name="training step",
        lower=lambda: step.lower(state, batch),
        flops=stage.batch_size * flops.model,
        recomputed=stage.batch_size * flops.recomputed,
        moved_bytes=2 * device_bytes(state) + _weights_read(model, stage, mesh),
    )


def arguments(
    model: ModelConfig, stage: StageConfig, mesh: Mesh, sizes: Sizes
) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """Shapes of the state and of one batch, as the step takes them."""
    state = jax.eval_shape(lambda params: init_state(stage, params), abstract_params(model))
    tokens = sizes.frames * model.projector.tokens_per_frame
    side = model.vision.image_size
    fields: dict[str, tuple[Any, ...]] = {
        "num_frames": (jnp.int32,),
        "prefix_ids": (jnp.int32, sizes.prefix),
        "prefix_len": (jnp.int32,),
        "prefix_labels": (jnp.int32, sizes.prefix),
        "suffix_ids": (jnp.int32, sizes.suffix),
        "suffix_len": (jnp.int32,),
        "suffix_labels": (jnp.int32, sizes.suffix),
    }
    if sizes.encoded:
        fields["merged_features"] = (model.compute_dtype, tokens, model.vision.width)
    else:
        fields["frames"] = (jnp.uint8, sizes.frames, side, side, 3)

    def array(name: str, dtype: Any, *rest: int) -> jax.ShapeDtypeStruct:
        shape = (stage.batch_size, *rest)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh, name, shape))

    batch = {name: array(name, *field) for name, field in fields.items()}
    return placed(state, state_shardings(model, stage, mesh)), batch


def _weights_read(model: ModelConfig, stage: StageConfig, mesh: Mesh) -> float:
    """Bytes of weights that one device multiplies by, each time it does so."""
    total = 0
    for name, part in abstract_params(model).items():
        passes = 2 + stage.remat if name in stage.trainable else 1
        total += passes * sum(leaf.size for leaf in jax.tree.leaves(part))
    passed = stage.accumulate_steps * total * model.compute_dtype.itemsize
    return passed / mesh.shape["tensor"]
