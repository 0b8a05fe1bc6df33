"""The quick form: only the layers that see most tokens and those that see fewest are compiled.

Compiling takes as long as there are distinct token counts. The real step of a model that has only
its first and its last stage shows kernels, layouts and what layers of either length keep; what the
layers between would add is known exactly but for what the compiler makes of it: parameters,
optimiser state and gradients, and the input that every layer keeps for its backward pass. For a TPU
the memory need not be put together so: its compiler tells that of the whole step at once
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
"""Of a device's memory. A step whose least was 9.1 GiB was compiled for chips of 12.9, and refused
for chips of 12.0 by 0.2 (xla_tpu_max_hbm_size_mib): later passes need more than the compiler first
plans with."""


def shortened(model: ModelConfig, stage: StageConfig) -> tuple[ModelConfig, StageConfig]:
    """The same with the layers of the first and the last stage of the decoder only.

    Raises:
        ConfigError: nothing to leave out, or layers that keep what only compiling tells.
    """
    stages = _stages(model, stage)
    if len(stages) <= 2:
        raise ConfigError(
            f"--stages-only leaves out all but the first and the last of the decoder's stages, "
            f"and there are only {len(stages)}; compile the whole step"
        )
    if not stage.remat:
        raise ConfigError(
            f"--stages-only knows what a layer keeps only where it is recomputed, and stage "
            f"{stage.name!r} has remat=False; set remat=True or compile the whole step"
        )
    first, last = stages[0].num_layers, stages[-1].num_layers
    per_frame = model.projector.tokens_per_frame
    left = tokens_per_frame_by_layer(stages, per_frame)[-1]
    compression = CompressionConfig(
        schedule="stepwise",
        keep=stage.compression.keep,
        drop_after_layers=(first,),
        strides=(int(per_frame / left),),
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
    """What the estimate of the shortened step, and the `least_needed` of the whole one if that is
    known, say about the whole one.

    Traffic inside the decoder grows with the number of layers, as that of weights does.
    """
    few, few_stage = shortened(model, stage)
    times = model.llm.num_hidden_layers / few.llm.num_hidden_layers
    more = (times - 1) * _sent_in_layers(short, few, few_stage)
    executed = (whole.flops + whole.recomputed) / len(pod.devices)
    return dataclasses.replace(
        short,
        program=f"{whole.name}, from its first and last stage",
        spare=EXTRAPOLATED_SPARE,
        memory=_memory(short, model, stage, mesh, sizes, least),
        least_bytes=least,
        flops=whole.flops,
        recomputed=whole.recomputed,
        sent=(*short.sent, Collective("extrapolated", more, (), "the layers left out")),
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
    held = device_bytes(state) + device_bytes(batch)
    if least is not None:
        return Memory(arguments=held, temporary=least - held, needed=least)
    if short.memory is None:
        return None
    few, few_stage = shortened(model, stage)
    few_state, _ = arguments(few, few_stage, mesh, sizes)
    gradients = _trained_bytes(stage, state) - _trained_bytes(stage, few_state)
    buffers = 1 if stage.accumulate_steps == 1 else 2  # of one micro batch, and their sum
    kept = _kept_inputs(model, stage, mesh, sizes) - _kept_inputs(few, few_stage, mesh, sizes)
    temporary = short.memory.temporary + buffers * gradients + kept
    rest = short.memory.needed - short.memory.arguments - short.memory.temporary
    return Memory(arguments=held, temporary=temporary, needed=held + temporary + rest)


def _sent_in_layers(short: Estimate, model: ModelConfig, stage: StageConfig) -> float:
    """Bytes sent inside the loops over decoder layers, known by their number of turns."""
    outer = 0 if stage.accumulate_steps == 1 else 1  # the loop over micro batches
    turns = {part.num_layers for part in _stages(model, stage)}
    return sum(
        one.nbytes for one in short.sent if len(one.loops) > outer and one.loops[outer] in turns
    )


def _stages(model: ModelConfig, stage: StageConfig) -> Any:
    return plan_layer_groups(
        stage.compression,
        num_layers=model.llm.num_hidden_layers,
        tokens_per_frame=model.projector.tokens_per_frame,
    )


def _trained_bytes(stage: StageConfig, state: Any) -> int:
    return device_bytes(learned_params(stage, state.params))


def _kept_inputs(model: ModelConfig, stage: StageConfig, mesh: Mesh, sizes: Sizes) -> int:
    """Bytes of one device: the input of every decoder layer, for one micro batch."""
    by_layer = tokens_per_frame_by_layer(_stages(model, stage), model.projector.tokens_per_frame)
    text = len(by_layer) * (sizes.prefix + sizes.suffix)
    rows = sizes.frames * sum(by_layer) / mesh.shape.get("context", 1) + text
    examples = stage.batch_size / stage.accumulate_steps / batch_split(mesh)
    width = jax.numpy.dtype(model.compute_dtype).itemsize * model.llm.hidden_size
    return int(examples * rows * width)
