"""Trains low-rank adapters ([LoRA](https://arxiv.org/abs/2106.09685)) beside the base weights.

Under `lora` in a parameter tree each adapted projection has a [L, in, rank] and b [L, rank, out],
at the path that its kernel has under `llm/layers`. The base weights stay fixed while the adapters
train; `merge_adapters` then adds the adapters to them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from xcomp_jax.config import LoRAConfig, StageConfig
from xcomp_jax.models.xcomp import Params

PROJECTIONS_BY_BLOCK = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


def init_adapters(config: LoRAConfig, params: Params) -> Params:
    """Returns float32 adapters: a with variance 1 / in from a fixed seed, b zero."""
    layers = params["llm"]["layers"]
    adapters: Params = {}
    for number, (block, name) in enumerate(_adapted_projections(config)):
        kernel = layers[block][name]["kernel"]  # L in out
        count, size, out = kernel.shape
        noise = jax.random.normal(jax.random.key(number), (count, size, config.rank))
        adapters.setdefault(block, {})[name] = {
            "a": noise * size**-0.5,
            "b": jnp.zeros((count, config.rank, out)),
        }
    return adapters


def scale_adapters(stage: StageConfig, params: Params) -> Params:
    """Returns `params` for a forward pass: every b multiplied by alpha / rank."""
    if stage.lora is None:
        return params
    scale = stage.lora.scale

    def scale_b(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf * scale if path[-1].key == "b" else leaf

    return {**params, "lora": jax.tree_util.tree_map_with_path(scale_b, params["lora"])}


def merge_adapters(stage: StageConfig, params: Params) -> Params:
    """Returns a model without adapters whose kernels are kernel + a b alpha / rank.

    Without `stage.lora`, returns `params` unchanged.
    """
    if stage.lora is None:
        return params
    layers = {block: dict(leaves) for block, leaves in params["llm"]["layers"].items()}
    for block, name in _adapted_projections(stage.lora):
        pair, base = params["lora"][block][name], layers[block][name]
        product = jnp.matmul(pair["a"], pair["b"], precision="highest")
        layers[block][name] = {**base, "kernel": base["kernel"] + stage.lora.scale * product}
    model = {part: leaves for part, leaves in params.items() if part != "lora"}
    return {**model, "llm": {**params["llm"], "layers": layers}}


def _adapted_projections(config: LoRAConfig) -> list[tuple[str, str]]:
    return [
        (block, name)
        for block, names in PROJECTIONS_BY_BLOCK.items()
        for name in names
        if name in config.projections
    ]
