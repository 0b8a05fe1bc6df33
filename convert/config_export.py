"""Writing of the config.json that the PyTorch code reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from xcomp_jax.config import ModelConfig, VisionConfig
from xcomp_jax.convert.config import CONFIG_SUBJECT, differing_fields, to_model_config
from xcomp_jax.convert.config_keys import DTYPE_KEYS, LLM_KEYS, ROPE_KEYS, TINY_KEYS, VISION_FIELDS
from xcomp_jax.convert.errors import raise_problems
from xcomp_jax.convert.variants import HF_CONFIG, VISION_TOWERS

PROJECTOR_HEAD_DIM = 64


def to_hf_config(
    model: ModelConfig, *, stored: str, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Builds a config.json for the PyTorch code.

    Args:
        model: configuration to describe.
        stored: dtype of the written tensors.
        base: config.json that this model was converted from; its other keys are kept.
            Default: the published values.

    Raises:
        ConversionError: the PyTorch code cannot build such a model.
    """
    config = dict(HF_CONFIG if base is None else base)
    llm, vision = model.llm, model.vision
    config |= {key: getattr(llm, key) for key in LLM_KEYS if key != "rope_theta"}
    nested = [key for key in ROPE_KEYS if "rope_theta" in (config.get(key) or {})]
    for key in nested:
        config[key] = {**config[key], "rope_theta": llm.rope_theta}
    if "rope_theta" in config or not nested:
        config["rope_theta"] = llm.rope_theta
    for key in [key for key in DTYPE_KEYS if key in config] or DTYPE_KEYS[:1]:
        config[key] = stored
    config |= {
        "mm_vision_tower": _tower_name(config.get("mm_vision_tower"), vision),
        "mm_vision_select_layer": vision.select_layer,
        "mm_local_num_frames": vision.clip_frames,
        "mm_hidden_size": vision.width,
        "mm_projector_type": f"tome{model.projector.tokens_per_frame}_mlp_hd{PROJECTOR_HEAD_DIM}",
    }
    tower = VISION_TOWERS[config["mm_vision_tower"]]
    for key, field in TINY_KEYS.items():
        if key in config or getattr(vision, field) != getattr(tower, field):
            config[key] = getattr(vision, field)
    _check_expressible(model, config)
    return config


def _check_expressible(model: ModelConfig, config: Mapping[str, Any]) -> None:
    """Checks that reading the file back gives this model: the PyTorch encoder is partly fixed."""
    tower = dataclasses.asdict(VISION_TOWERS[config["mm_vision_tower"]])
    raise_problems(
        CONFIG_SUBJECT,
        [
            f"vision.{name}={value!r} cannot be exported, the PyTorch code has {tower[name]!r}"
            for name, value in dataclasses.asdict(model.vision).items()
            if name not in VISION_FIELDS and value != tower[name]
        ],
    )
    described = to_model_config(config, compression=model.compression)
    assert not differing_fields(model, described, without=("dtype",)), (model, described)


def _tower_name(current: str | None, vision: VisionConfig) -> str:
    names = [n for n, t in VISION_TOWERS.items() if t.architecture == vision.architecture]
    if current in names:
        return current
    same_size = [n for n in names if VISION_TOWERS[n].image_size == vision.image_size]
    return [*same_size, *names][0]
