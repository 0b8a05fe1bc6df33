"""The programs behind a question about a long video, ready to be compiled for a mesh that is not
there.

A device (or the devices that share one part of a batch) looks at one video; parameters are in the
compute dtype and live where training would put them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import ModelConfig, SelectionConfig
from xcomp_jax.engine.programs import CLIPS_PER_CALL, encode_clips, prefill
from xcomp_jax.flops import encoder_flops, prefill_flops, reading_flops, scoring_flops
from xcomp_jax.inference.selector import WINDOWS_PER_CALL
from xcomp_jax.launch.preflight.program import (
    Program,
    device_bytes,
    everywhere,
    placed,
    split_over_batch,
)
from xcomp_jax.launch.preflight.training import Sizes
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp, abstract_params
from xcomp_jax.selection.plan import plan_scoring, plan_windows
from xcomp_jax.selection.scoring import prefill_windows, score_windows
from xcomp_jax.sharding import BATCH, batch_split, parameter_shardings


def serving_programs(
    config: ModelConfig, selection: SelectionConfig, mesh: Mesh, sizes: Sizes
) -> list[Program]:
    """Encoding clips, filling the cache of whole videos, watching windows and scoring them.

    Raises:
        ConfigError: fewer frames than a scoring window's segments need.
    """
    model, llm = XComp(config), config.llm
    stages = plan_layer_groups(
        config.compression,
        num_layers=llm.num_hidden_layers,
        tokens_per_frame=config.projector.tokens_per_frame,
    )
    whole = abstract_params(config)
    params = placed(whole, parameter_shardings(whole, mesh), config.compute_dtype)
    read_once = device_bytes(params)
    videos = batch_split(mesh)
    head = 2 * llm.hidden_size * llm.vocab_size

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return split_over_batch(mesh, shape, dtype)

    clips, side = CLIPS_PER_CALL * videos, config.vision.image_size
    pixels = array(jnp.uint8, clips, config.vision.clip_frames, side, side, 3)

    tokens = sizes.frames * config.projector.tokens_per_frame
    lengths: Any = (array(jnp.int32, videos),) * 3
    sequence = (
        array(jnp.int32, videos, sizes.prefix),
        array(config.compute_dtype, videos, tokens, llm.hidden_size),
        array(jnp.int32, videos, sizes.suffix),
        Lengths(*lengths),
    )

    windows = plan_windows(selection, sizes.frames)
    count, seen = WINDOWS_PER_CALL * videos, windows.length * config.projector.tokens_per_frame
    plan = plan_scoring(
        stages,
        selection,
        visual_tokens=seen,
        tokens_per_frame=config.projector.tokens_per_frame,
    )
    watched = [part.stage for part in plan.watched]
    window = array(config.compute_dtype, count, seen, llm.hidden_size)
    before = everywhere(mesh, (sizes.prefix,), jnp.int32)
    keys = jax.eval_shape(prefill_windows, model, params, before, window, plan.watched)
    # [layers, windows, ...]: a window's states stay with the devices that watched it.
    by_window = NamedSharding(mesh, PartitionSpec(None, *BATCH))
    keys = placed(keys, jax.tree.map(lambda _: by_window, keys))
    scalar = everywhere(mesh, (), jnp.int32)
    question = everywhere(mesh, (sizes.suffix,), jnp.int32)
    reading = reading_flops(config, watched, before=sizes.prefix, visual=seen, rows=sizes.suffix)
    scores = scoring_flops(config, plan, before=sizes.prefix, rows=sizes.suffix)
    return [
        Program(
            name=f"encoding {CLIPS_PER_CALL} clips a device",
            lower=lambda: encode_clips.lower(model, params, pixels),
            flops=clips * encoder_flops(config),
            moved_bytes=read_once,
        ),
        Program(
            name=f"prefill of {sizes.frames} frames",
            lower=lambda: prefill.lower(model, params, *sequence),
            flops=videos
            * (
                prefill_flops(config, stages, text=sizes.prefix + sizes.suffix, visual=tokens)
                + head
            ),
            moved_bytes=read_once,
        ),
        Program(
            name=f"watching {WINDOWS_PER_CALL} windows a device",
            lower=lambda: prefill_windows.lower(model, params, before, window, plan.watched),
            flops=count * prefill_flops(config, watched, text=sizes.prefix, visual=seen),
            moved_bytes=read_once,
        ),
        Program(
            name=f"scoring {WINDOWS_PER_CALL} windows a device",
            lower=lambda: score_windows.lower(
                model,
                params,
                keys,
                question,
                scalar,
                scalar,
                scalar,
                plan=plan,
                before=sizes.prefix,
            ),
            flops=count * (reading + scores),
            moved_bytes=read_once + device_bytes(keys),
        ),
    ]
