"""Low-rank adapters (LoRA, arXiv 2106.09685): a small tree beside the parameters of the model.

Under `lora` in a parameter tree each adapted projection has a [L, in, rank] and b [L, rank, out],
at the place that its kernel has under `llm/layers`. The base never changes while adapters learn;
`merged` adds them to it, after which the model is one like any other.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from xcomp_jax.config import LoRAConfig, StageConfig
from xcomp_jax.models.xcomp import Params

PLACES = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


def init_adapters(config: LoRAConfig, params: Params) -> Params:
    """Fresh adapters, float32: a is drawn with variance 1 / in, always alike, and b is zero."""
    layers = params["llm"]["layers"]
    adapters: Params = {}
    for number, (block, name) in enumerate(_adapted(config)):
        kernel = layers[block][name]["kernel"]  # L in out
        count, size, out = kernel.shape
        noise = jax.random.normal(jax.random.key(number), (count, size, config.rank))
        adapters.setdefault(block, {})[name] = {
            "a": noise * size**-0.5,
            "b": jnp.zeros((count, config.rank, out)),
        }
    return adapters


def scaled(stage: StageConfig, params: Params) -> Params:
    """`params` for a forward pass: every b multiplied by alpha / rank."""
    if stage.lora is None:
        return params
    scale = stage.lora.scale

    def times(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf * scale if path[-1].key == "b" else leaf

    return {**params, "lora": jax.tree_util.tree_map_with_path(times, params["lora"])}


def merged(stage: StageConfig, params: Params) -> Params:
    """The model that `stage` taught, without adapters: kernel + a b alpha / rank.

    Without `stage.lora` these are the parameters as they are.
    """
    if stage.lora is None:
        return params
    layers = {block: dict(leaves) for block, leaves in params["llm"]["layers"].items()}
    for block, name in _adapted(stage.lora):
        pair, old = params["lora"][block][name], layers[block][name]
        product = jnp.matmul(pair["a"], pair["b"], precision="highest")
        layers[block][name] = {**old, "kernel": old["kernel"] + stage.lora.scale * product}
    model = {part: leaves for part, leaves in params.items() if part != "lora"}
    return {**model, "llm": {**params["llm"], "layers": layers}}


def _adapted(config: LoRAConfig) -> list[tuple[str, str]]:
    return [
        (block, name)
        for block, names in PLACES.items()
        for name in names
        if name in config.projections
    ]
