"""Define the programs behind a question about a long video, to be compiled for a pod.

Each device (or group of devices that shares one part of a batch) serves one video. Parameters are
in the compute dtype and sharded as in training.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import ModelConfig, SelectionConfig
from xcomp_jax.engine.encoder import CLIPS_PER_DEVICE
from xcomp_jax.engine.engine import WINDOWS_PER_DEVICE
from xcomp_jax.engine.programs import encode_clips, prefill, prefill_windows, score_windows
from xcomp_jax.flops import encoder_flops, prefill_flops, reading_flops, scoring_flops
from xcomp_jax.launch.preflight.program import (
    Program,
    device_bytes,
    placed,
    replicated,
    split_over_batch,
)
from xcomp_jax.launch.preflight.training import Sizes
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp, abstract_params
from xcomp_jax.selection.plan import plan_scoring
from xcomp_jax.selection.window_pass import TextQuery
from xcomp_jax.selection.windows import plan_windows
from xcomp_jax.sharding import BATCH, batch_split, parameter_shardings


def serving_programs(
    config: ModelConfig, selection: SelectionConfig, mesh: Mesh, sizes: Sizes
) -> list[Program]:
    """Returns the programs that encode clips, prefill videos, and prefill and score windows.

    Raises:
        ConfigError: the video has fewer frames than the segments of one scoring window.
    """
    shapes = abstract_params(config)
    params = placed(shapes, parameter_shardings(shapes, mesh), config.compute_dtype)
    return [
        _encoding(config, mesh, params),
        _prefill(config, mesh, params, sizes),
        *_selection(config, selection, mesh, params, sizes),
    ]


def _encoding(config: ModelConfig, mesh: Mesh, params: Any) -> Program:
    clips, side = CLIPS_PER_DEVICE * mesh.size, config.vision.image_size
    shape = (clips, config.vision.clip_frames, side, side, 3)
    pixels = split_over_batch(mesh, shape, jnp.uint8)
    return Program(
        name=f"encoding {CLIPS_PER_DEVICE} clips per device",
        lower=lambda: encode_clips.lower(XComp(config), params, pixels),
        flops=clips * encoder_flops(config),
        moved_bytes=device_bytes(params),
    )


def _prefill(config: ModelConfig, mesh: Mesh, params: Any, sizes: Sizes) -> Program:
    llm, videos = config.llm, batch_split(mesh)
    tokens = sizes.frames * config.projector.tokens_per_frame

    def ids(*shape: int) -> Any:
        return split_over_batch(mesh, (videos, *shape), jnp.int32)

    sequence = (
        ids(sizes.prefix),
        split_over_batch(mesh, (videos, tokens, llm.hidden_size), config.compute_dtype),
        ids(sizes.suffix),
        Lengths(ids(), ids(), ids()),
    )
    layers = prefill_flops(
        config, _layer_groups(config), text=sizes.prefix + sizes.suffix, visual=tokens
    )
    head = 2 * llm.hidden_size * llm.vocab_size
    return Program(
        name=f"prefill of {sizes.frames} frames",
        lower=lambda: prefill.lower(XComp(config), params, *sequence),
        flops=videos * (layers + head),
        moved_bytes=device_bytes(params),
    )


def _selection(
    config: ModelConfig, selection: SelectionConfig, mesh: Mesh, params: Any, sizes: Sizes
) -> list[Program]:
    model, per_frame = XComp(config), config.projector.tokens_per_frame
    count = WINDOWS_PER_DEVICE * batch_split(mesh)
    visual = plan_windows(selection, sizes.frames).length * per_frame
    plan = plan_scoring(
        _layer_groups(config),
        selection,
        visual_tokens=visual,
        tokens_per_frame=per_frame,
        prefix_length=sizes.prefix,
    )
    groups = [group.layers for group in plan.groups]
    window = split_over_batch(mesh, (count, visual, config.llm.hidden_size), config.compute_dtype)
    before = replicated(mesh, (sizes.prefix,), jnp.int32)
    caches = jax.eval_shape(prefill_windows, model, params, before, window, plan.groups)
    # [layers, windows, ...]: the states of a window stay on the devices that computed them.
    by_window = NamedSharding(mesh, PartitionSpec(None, *BATCH))
    caches = placed(caches, jax.tree.map(lambda _: by_window, caches))
    scalar: Any = replicated(mesh, (), jnp.int32)
    question: Any = replicated(mesh, (sizes.suffix,), jnp.int32)
    query = TextQuery(question, scalar, scalar, scalar)
    reading = reading_flops(config, groups, before=sizes.prefix, visual=visual, rows=sizes.suffix)
    scores = scoring_flops(config, plan, rows=sizes.suffix)
    read_once = device_bytes(params)
    return [
        Program(
            name=f"prefill of {WINDOWS_PER_DEVICE} windows per device",
            lower=lambda: prefill_windows.lower(model, params, before, window, plan.groups),
            flops=count * prefill_flops(config, groups, text=sizes.prefix, visual=visual),
            moved_bytes=read_once,
        ),
        Program(
            name=f"scoring {WINDOWS_PER_DEVICE} windows per device",
            lower=lambda: score_windows.lower(model, params, caches, query, plan),
            flops=count * (reading + scores),
            moved_bytes=read_once + device_bytes(caches),
        ),
    ]


def _layer_groups(config: ModelConfig) -> Any:
    return plan_layer_groups(
        config.compression,
        num_layers=config.llm.num_hidden_layers,
        tokens_per_frame=config.projector.tokens_per_frame,
    )
