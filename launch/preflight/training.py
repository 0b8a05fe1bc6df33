"""Define the training step of a configuration as a program to compile for a pod."""

from __future__ import annotations

import dataclasses
import functools
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
"""Text tokens before the video: system turn and start of the user turn, rounded up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of one example, padding included.

    Attributes:
        prefix, suffix: text tokens before and after the video.
        encoded: batches hold merged features from a feature store instead of pixels.
    """

    frames: int
    prefix: int
    suffix: int
    encoded: bool = False


def step_program(model: ModelConfig, stage: StageConfig, mesh: Mesh, sizes: Sizes) -> Program:
    """Returns the program of one optimizer step.

    Args:
        model: the model with the compression of `stage` (`config.stage_model`).

    Raises:
        ConfigError: the mesh does not divide a micro batch.
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
        # Compiled twice, see `estimate.least_needed`; tracing takes a minute.
        lower=functools.cache(lambda: step.lower(state, batch)),
        flops=stage.batch_size * flops.model,
        recomputed=stage.batch_size * flops.recomputed,
        moved_bytes=2 * device_bytes(state) + _weights_read(model, stage, mesh),
    )


def arguments(
    model: ModelConfig, stage: StageConfig, mesh: Mesh, sizes: Sizes
) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """Returns the abstract state and batch that the step takes."""
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
    """Returns the bytes of weights that one device reads in a step, once per pass."""
    total = 0
    for name, part in abstract_params(model).items():
        passes = 2 + stage.remat if name in stage.trainable else 1
        total += passes * sum(leaf.size for leaf in jax.tree.leaves(part))
    return stage.accumulate_steps * total * model.compute_dtype.itemsize / mesh.shape["tensor"]
