"""Estimate a training step from its first and last layer groups alone.

Compile time grows with the number of distinct token counts. The step of a model that has only the
layers with most and with fewest tokens shows the kernels, layouts and memory of both; the layers in
between add known amounts of parameters, optimizer state, gradients and remat inputs. The memory of
a TPU program needs no extrapolation: the compiler reports that of the whole step quickly
(`estimate.least_needed`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from xcomp_jax.compression.schedule import plan_layer_groups, tokens_per_frame_by_layer
from xcomp_jax.config import CompressionConfig, ConfigError, ModelConfig, StageConfig
from xcomp_jax.launch.preflight.collectives import Collective
from xcomp_jax.launch.preflight.estimate import Estimate, Memory
from xcomp_jax.launch.preflight.pods import Pod
from xcomp_jax.launch.preflight.program import Program, device_bytes
from xcomp_jax.launch.preflight.training import Sizes, arguments
from xcomp_jax.sharding import batch_split
from xcomp_jax.training.step import learned_params

EXTRAPOLATED_SPARE = 0.3
"""Share of memory kept free, because later passes need more than the compiler first plans with: a
step with a minimum of 9.1 GiB compiled for chips of 12.9 GiB, and missed by 0.2 on chips of 12.0
(xla_tpu_max_hbm_size_mib)."""


def shortened(model: ModelConfig, stage: StageConfig) -> tuple[ModelConfig, StageConfig]:
    """Returns the model and stage with the first and the last layer group only.

    Raises:
        ConfigError: there are at most two groups, or the stage has remat=False.
    """
    groups = _layer_groups(model, stage)
    if len(groups) <= 2:
        raise ConfigError(
            "--quick compiles the first and the last layer group, and this decoder has only "
            f"{len(groups)}; compile the whole step"
        )
    if not stage.remat:
        raise ConfigError(
            f"--quick needs remat=True to know the memory of each layer, and stage {stage.name!r} "
            "has remat=False; set remat=True or compile the whole step"
        )
    first, last = groups[0].num_layers, groups[-1].num_layers
    per_frame = model.projector.tokens_per_frame
    last_tokens = tokens_per_frame_by_layer(groups, per_frame)[-1]
    compression = CompressionConfig(
        schedule="stepwise",
        keep=stage.compression.keep,
        drop_after_layers=(first,),
        strides=(int(per_frame / last_tokens),),
    )
    llm = dataclasses.replace(model.llm, num_hidden_layers=first + last)
    return (
        dataclasses.replace(model, llm=llm, compression=compression),
        dataclasses.replace(stage, compression=compression),
    )


def extended(
    short: Estimate,
    whole: Program,
    model: ModelConfig,
    stage: StageConfig,
    mesh: Mesh,
    sizes: Sizes,
    pod: Pod,
    least: int | None,
) -> Estimate:
    """Extrapolates the estimate of the shortened step to the whole one.

    Traffic inside the decoder is scaled by the number of layers, because it is mostly weights.

    Args:
        least: `least_needed` of the whole step, if known.
    """
    few, few_stage = shortened(model, stage)
    times = model.llm.num_hidden_layers / few.llm.num_hidden_layers
    more = (times - 1) * _sent_in_layers(short, few, few_stage)
    executed = (whole.flops + whole.recomputed) / len(pod.devices)
    return dataclasses.replace(
        short,
        program=f"{whole.name}, extrapolated from its first and last layer group",
        spare=EXTRAPOLATED_SPARE,
        memory=_memory(short, model, stage, mesh, sizes, least),
        least_bytes=least,
        flops=whole.flops,
        recomputed=whole.recomputed,
        sent=(*short.sent, Collective("extrapolated", more, (), "layers in between")),
        compute_s=pod.peak.least_seconds(executed, 0),
        memory_s=pod.peak.least_seconds(0, whole.moved_bytes),
        links_s=short.links_s + more / (pod.link_gbytes * 1e9),
    )


def _memory(
    short: Estimate,
    model: ModelConfig,
    stage: StageConfig,
    mesh: Mesh,
    sizes: Sizes,
    least: int | None,
) -> Memory | None:
    state, batch = arguments(model, stage, mesh, sizes)
    argument_bytes = device_bytes(state) + device_bytes(batch)
    if least is not None:
        return Memory(arguments=argument_bytes, temporary=least - argument_bytes, needed=least)
    if short.memory is None:
        return None
    few, few_stage = shortened(model, stage)
    few_state, _ = arguments(few, few_stage, mesh, sizes)
    gradients = _trained_bytes(stage, state) - _trained_bytes(stage, few_state)
    buffers = 1 if stage.accumulate_steps == 1 else 2  # of a micro batch, and their sum
    kept = _kept_inputs(model, stage, mesh, sizes) - _kept_inputs(few, few_stage, mesh, sizes)
    temporary = short.memory.temporary + buffers * gradients + kept
    rest = short.memory.needed - short.memory.arguments - short.memory.temporary
    needed = argument_bytes + temporary + rest
    return Memory(arguments=argument_bytes, temporary=temporary, needed=needed)


def _sent_in_layers(short: Estimate, model: ModelConfig, stage: StageConfig) -> float:
    """Sums the bytes sent in loops over decoder layers, recognized by their iterations."""
    outer = 0 if stage.accumulate_steps == 1 else 1  # the loop over micro batches
    iterations = {group.num_layers for group in _layer_groups(model, stage)}
    return sum(
        collective.nbytes
        for collective in short.sent
        if len(collective.loops) > outer and collective.loops[outer] in iterations
    )


def _layer_groups(model: ModelConfig, stage: StageConfig) -> Any:
    return plan_layer_groups(
        stage.compression,
        num_layers=model.llm.num_hidden_layers,
        tokens_per_frame=model.projector.tokens_per_frame,
    )


def _trained_bytes(stage: StageConfig, state: Any) -> int:
    return device_bytes(learned_params(stage, state.params))


def _kept_inputs(model: ModelConfig, stage: StageConfig, mesh: Mesh, sizes: Sizes) -> int:
    """Returns the bytes per device of the inputs of all decoder layers, for one micro batch."""
    by_layer = tokens_per_frame_by_layer(
        _layer_groups(model, stage), model.projector.tokens_per_frame
    )
    text = len(by_layer) * (sizes.prefix + sizes.suffix)
    rows = sizes.frames * sum(by_layer) / mesh.shape.get("context", 1) + text
    examples = stage.batch_size / stage.accumulate_steps / batch_split(mesh)
    width = jax.numpy.dtype(model.compute_dtype).itemsize * model.llm.hidden_size
    return int(examples * rows * width)
