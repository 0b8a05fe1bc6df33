"""The decoder's first layer, forward and in training, and the scoring of a window's layer."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import KernelConfig, ModelConfig, SelectionConfig
from xcomp_jax.engine.engine import WINDOWS_PER_DEVICE
from xcomp_jax.engine.programs import prefill_windows, score_windows
from xcomp_jax.flops import Rows, layer_flops, reading_flops, scoring_flops
from xcomp_jax.launch.bench.cycles.program import REPEATS, Program
from xcomp_jax.launch.bench.model import PREFIX, SUFFIX
from xcomp_jax.launch.preflight.machines import shape
from xcomp_jax.models.decoder_layer import DecoderLayer
from xcomp_jax.models.layer_stack import LayerStack, PrefillOptions
from xcomp_jax.models.sequence import DeviceOrder, Lengths, Parts
from xcomp_jax.models.xcomp import XComp, abstract_params
from xcomp_jax.selection.plan import ScoringPlan, layers_to_score, plan_scoring
from xcomp_jax.selection.window_pass import TextQuery
from xcomp_jax.selection.windows import plan_windows
from xcomp_jax.variants import XCOMP_2B

FRAMES = 1024
QUESTION_ROWS = 128


def decoder_layer(config: ModelConfig = XCOMP_2B) -> Program:
    """Returns the first layer over 1,024 frames and the text around them."""
    return Program(
        name="decoder layer",
        lower=lambda mesh: _lower_layer(config, mesh, training=False),
        product_flops=_products(config),
        kernel_flops=_attention(config),
        per_1024_frames=_layers_of_first_length(config),
        looped=True,
    )


def trained_layer(config: ModelConfig = XCOMP_2B) -> Program:
    """Returns the first layer in training: forward, recomputed forward, and backward."""
    return Program(
        name="decoder layer, training",
        lower=lambda mesh: _lower_layer(config, mesh, training=True),
        product_flops=4 * _products(config),
        # Two products forward, each time, and five backward.
        kernel_flops=4.5 * _attention(config),
        per_1024_frames=_layers_of_first_length(config),
        looped=True,
    )


def scored_layer(config: ModelConfig = XCOMP_2B) -> Program:
    """Returns one scored layer over the cached windows of a device."""
    selection = SelectionConfig()
    first, stop = layers_to_score(selection, config.llm.num_hidden_layers)
    windows = len(plan_windows(selection, FRAMES).starts) / WINDOWS_PER_DEVICE
    small, plan, visual = _scored(config, selection)
    groups = [group.layers for group in plan.groups]
    flops = reading_flops(small, groups, before=PREFIX, visual=visual, rows=QUESTION_ROWS)
    weights = layer_flops(config.llm, Rows(QUESTION_ROWS, 0))
    scores = scoring_flops(small, plan, rows=QUESTION_ROWS)
    return Program(
        name="scored layer",
        lower=lambda mesh: _lower_scoring(config, mesh),
        product_flops=WINDOWS_PER_DEVICE * weights,
        kernel_flops=WINDOWS_PER_DEVICE * (flops + scores - REPEATS * weights) / REPEATS,
        per_1024_frames=windows * (stop - first),
        looped=True,
    )


def _products(config: ModelConfig) -> float:
    return layer_flops(config.llm, Rows(_tokens(config), 0))


def _attention(config: ModelConfig) -> float:
    return layer_flops(config.llm, Rows.causal(_tokens(config))) - _products(config)


def _tokens(config: ModelConfig) -> int:
    return FRAMES * config.projector.tokens_per_frame + PREFIX + SUFFIX


def _layers_of_first_length(config: ModelConfig) -> float:
    """Counts the layers, each by its number of tokens against the first one's."""
    groups = plan_layer_groups(
        config.compression,
        num_layers=config.llm.num_hidden_layers,
        tokens_per_frame=config.projector.tokens_per_frame,
    )
    visual, layers = FRAMES * config.projector.tokens_per_frame, 0.0
    for group in groups:
        visual = group.visual_length(visual)
        layers += group.num_layers * (visual + PREFIX + SUFFIX) / _tokens(config)
    return layers


def _lower_layer(config: ModelConfig, mesh: Mesh, *, training: bool) -> Any:
    llm, dtype = config.llm, config.compute_dtype
    stack = LayerStack(llm, DecoderLayer(llm, dtype), dtype, KernelConfig())
    options = PrefillOptions(keep_cache=False, remat=training)

    def run(params: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        out = stack.prefill({"params": params}, Parts(*parts), DeviceOrder(), options)[0]
        return out.prefix, out.visual, out.suffix

    def train(params: Any, parts: tuple[Any, ...], gradient: tuple[Any, ...]) -> Any:
        *hidden, lengths = parts
        return jax.vjp(lambda p, x: run(p, (*x, lengths)), params, hidden)[1](gradient)

    params = jax.tree.map(
        lambda leaf: shape(mesh, (REPEATS, *leaf.shape[1:]), jnp.float32 if training else dtype),
        abstract_params(config)["llm"]["layers"],
    )
    slots = (PREFIX, FRAMES * config.projector.tokens_per_frame, SUFFIX)
    hidden = tuple(shape(mesh, (1, n, llm.hidden_size), dtype) for n in slots)
    length: Any = shape(mesh, (1,), jnp.int32)
    lengths = Lengths(length, length, length)
    if training:
        return jax.jit(train).lower(params, (*hidden, lengths), hidden)
    return jax.jit(run).lower(params, (*hidden, lengths))


def _scored(
    config: ModelConfig, selection: SelectionConfig
) -> tuple[ModelConfig, ScoringPlan, int]:
    """Returns a model of `REPEATS` layers without drops, its plan, and the tokens of a window."""
    small = dataclasses.replace(
        config,
        llm=dataclasses.replace(config.llm, num_hidden_layers=REPEATS),
        compression=dataclasses.replace(config.compression, schedule="none"),
    )
    per_frame = config.projector.tokens_per_frame
    visual = plan_windows(selection, FRAMES).length * per_frame
    groups = plan_layer_groups(small.compression, num_layers=REPEATS, tokens_per_frame=per_frame)
    plan = plan_scoring(
        groups,
        dataclasses.replace(selection, layers=(0, REPEATS)),
        visual_tokens=visual,
        tokens_per_frame=per_frame,
        prefix_length=PREFIX,
    )
    return small, plan, visual


def _lower_scoring(config: ModelConfig, mesh: Mesh) -> Any:
    config, plan, visual = _scored(config, SelectionConfig())
    model, dtype = XComp(config), config.compute_dtype

    def on_mesh(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: shape(mesh, leaf.shape, leaf.dtype), tree)

    params = jax.tree.map(lambda leaf: shape(mesh, leaf.shape, dtype), abstract_params(config))
    before = shape(mesh, (PREFIX,), jnp.int32)
    window = shape(mesh, (WINDOWS_PER_DEVICE, visual, config.llm.hidden_size), dtype)
    caches = on_mesh(jax.eval_shape(prefill_windows, model, params, before, window, plan.groups))
    scalar: Any = shape(mesh, (), jnp.int32)
    ids: Any = shape(mesh, (QUESTION_ROWS,), jnp.int32)
    query = TextQuery(ids, scalar, scalar, scalar)
    return score_windows.lower(model, params, caches, query, plan)
