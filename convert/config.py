"""Conversion between the config.json of a PyTorch checkpoint and ModelConfig.

Only keys that determine shapes and arithmetic are read. The PyTorch code configures LP-Comp by
environment variables rather than in config.json, so the compression is an argument here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

from xcomp_jax.config import (
    CompressionConfig,
    ConfigError,
    LLMConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
    to_dict,
)
from xcomp_jax.convert.errors import ConversionError, raise_problems
from xcomp_jax.convert.tensors import FLOATS, compute_dtype
from xcomp_jax.convert.variants import HF_CONFIG, VISION_TOWERS

# Sizes hard coded in the PyTorch code; tiny test models store them under these keys.
_TINY_KEYS = {
    "tiny_image_size": "image_size",
    "tiny_vision_hidden_size": "width",
    "tiny_vision_num_layers": "depth",
    "tiny_vision_num_heads": "num_heads",
}

_VISION_FIELDS = (*_TINY_KEYS.values(), "clip_frames", "select_layer")

_LLM_KEYS: dict[str, type] = {
    "vocab_size": int,
    "hidden_size": int,
    "intermediate_size": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "num_key_value_heads": int,
    "rope_theta": float,
    "rms_norm_eps": float,
    "tie_word_embeddings": bool,
}

# Beyond any model, but small enough that a corrupt or hostile file is rejected before anything of
# that size is allocated.
_RANGE = (1, 1 << 20)
_RANGES: dict[str, tuple[float, float]] = {
    "vocab_size": (1, 1 << 24),
    "num_hidden_layers": (1, 1000),
    "rope_theta": (1.0, 1e12),
    "rms_norm_eps": (0.0, 1.0),
    "mm_vision_select_layer": (-1000, -1),
    "mm_local_num_frames": (1, 32),
    "tiny_image_size": (1, 448),
    "tiny_vision_hidden_size": (1, 1408),
    "tiny_vision_num_layers": (1, 1000),
}

# Supported values of keys that change the arithmetic; a missing key means the first value.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "rope_scaling": (None,),
    "use_sliding_window": (False,),
    "mm_vision_select_feature": ("patch",),
}

_PROJECTOR_TYPE = re.compile(r"tome(?P<tokens>[0-9]{1,6})_mlp_hd64")
PROJECTOR_HEAD_DIM = 64
CONFIG_SUBJECT = "config.json"


def stored_dtype(config: Mapping[str, Any]) -> str | None:
    """Returns the declared dtype of the tensors (`torch_dtype`; `dtype` in newer files), if any."""
    return config.get("torch_dtype", config.get("dtype"))


def to_model_config(
    config: Mapping[str, Any], *, compression: CompressionConfig | None = None
) -> ModelConfig:
    """Builds the ModelConfig that a PyTorch config.json describes.

    Args:
        config: the parsed file.
        compression: LP-Comp of the model; default: the published one, `CompressionConfig()`.

    Raises:
        ConversionError: lists every missing, ill-typed, unsupported or contradictory key.
    """
    problems: list[str] = []
    llm = _read_llm(config, problems)
    vision = _read_vision(config, problems)
    tokens = _read_tokens_per_frame(config, problems)
    stored = stored_dtype(config)
    if stored is not None and stored not in list(FLOATS):
        problems.append(f"torch_dtype={stored!r} is not supported; supported: {sorted(FLOATS)}")
    problems += [
        f"{key}={config[key]!r} is not supported; supported: {list(values)}"
        for key, values in _SUPPORTED.items()
        if key in config and config[key] not in values
    ]
    if not problems:
        try:
            return ModelConfig(
                vision=VisionConfig(**vision),
                projector=ProjectorConfig(tokens_per_frame=tokens),
                llm=LLMConfig(**llm),
                compression=compression or CompressionConfig(),
                dtype=compute_dtype(stored or "float32"),
            )
        except ConfigError as error:
            problems.append(str(error))
    raise ConversionError(CONFIG_SUBJECT, problems)


def _get(config: Mapping[str, Any], key: str, kind: type, problems: list[str]) -> Any:
    if key not in config:
        problems.append(f"{key} is missing")
        return None
    value = config[key]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        problems.append(f"{key}={value!r} is not of type {kind.__name__}")
        return None
    if isinstance(value, int | float) and kind is not bool:
        low, high = _RANGES.get(key, _RANGE)
        if not low <= value <= high:
            problems.append(f"{key}={value} lies outside [{low}, {high}]")
    return value


def _read_llm(config: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    # transformers 5 stores the base of the rotary embedding one level deeper.
    nested = config.get("rope_parameters")
    if isinstance(nested, Mapping):
        if nested.get("rope_type", "default") != "default":
            problems.append(f"rope_parameters={dict(nested)} is not supported; supported: default")
        config = {"rope_theta": nested.get("rope_theta"), **config}
    return {key: _get(config, key, kind, problems) for key, kind in _LLM_KEYS.items()}


def _read_vision(config: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    name = _get(config, "mm_vision_tower", str, problems)
    if name is not None and name not in VISION_TOWERS:
        problems.append(
            f"mm_vision_tower={name!r} is not supported; supported: {sorted(VISION_TOWERS)}"
        )
    tower = VISION_TOWERS.get(name, VisionConfig())
    fields: dict[str, Any] = dataclasses.asdict(tower) | {
        "clip_frames": _get(config, "mm_local_num_frames", int, problems),
        "select_layer": _get(config, "mm_vision_select_layer", int, problems),
    }
    for key, field in _TINY_KEYS.items():
        if key in config:
            fields[field] = _get(config, key, int, problems)
    width = config.get("mm_hidden_size", fields["width"])
    if width != fields["width"]:
        problems.append(f"mm_hidden_size={width!r}, but {name!r} has width {fields['width']}")
    return fields


def _read_tokens_per_frame(config: Mapping[str, Any], problems: list[str]) -> int:
    kind = _get(config, "mm_projector_type", str, problems)
    match = _PROJECTOR_TYPE.fullmatch(kind or "")
    if kind is not None and match is None:
        problems.append(
            f"mm_projector_type={kind!r} is not supported; supported: tome<tokens>_mlp_hd64"
        )
    return int(match["tokens"]) if match else 1


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
    config |= {key: getattr(llm, key) for key in _LLM_KEYS if key != "rope_theta"}
    if "rope_parameters" in config and "rope_theta" not in config:
        config["rope_parameters"] = {**config["rope_parameters"], "rope_theta": llm.rope_theta}
    else:
        config["rope_theta"] = llm.rope_theta
    config["dtype" if "dtype" in config else "torch_dtype"] = stored
    config |= {
        "mm_vision_tower": _tower_name(config.get("mm_vision_tower"), vision),
        "mm_vision_select_layer": vision.select_layer,
        "mm_local_num_frames": vision.clip_frames,
        "mm_hidden_size": vision.width,
        "mm_projector_type": f"tome{model.projector.tokens_per_frame}_mlp_hd{PROJECTOR_HEAD_DIM}",
    }
    tower = VISION_TOWERS[config["mm_vision_tower"]]
    for key, field in _TINY_KEYS.items():
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
            if name not in _VISION_FIELDS and value != tower[name]
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


def differing_fields(
    a: ModelConfig, b: ModelConfig, *, without: Collection[str]
) -> list[tuple[str, Any, Any]]:
    """Returns name and both values of every field that differs, except in the parts `without`."""
    fields_a, fields_b = _flat_fields(a), _flat_fields(b)
    return [
        (name, fields_a[name], fields_b[name])
        for name in fields_a
        if fields_a[name] != fields_b[name] and name.split(".")[0] not in without
    ]


def _flat_fields(model: ModelConfig) -> dict[str, Any]:
    """Maps `llm.hidden_size` to its value, for every field."""
    flat: dict[str, Any] = {}
    for part, value in to_dict(model).items():
        if isinstance(value, dict):
            flat |= {f"{part}.{name}": field for name, field in value.items()}
        else:
            flat[part] = value
    return flat
