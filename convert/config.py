"""Reading of the config.json of a PyTorch checkpoint as ModelConfig.

Every key that changes the numbers is used or checked (`config_keys`). The PyTorch code configures
LP-Comp by environment variables rather than in config.json, so the compression is an argument here.
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
from xcomp_jax.convert.config_keys import (
    DTYPE_KEYS,
    IRRELEVANT,
    LLM_KEYS,
    MODEL_TYPES,
    ROPE_KEYS,
    SUPPORTED,
    TINY_KEYS,
)
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.tensors import FLOATS, compute_dtype
from xcomp_jax.convert.variants import VISION_TOWERS

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

# Keys with checks of their own, below.
_CHECKED = (
    *("torch_dtype", "dtype", "rope_parameters", "rope_scaling", "partial_rotary_factor"),
    *("mm_vision_tower", "mm_local_num_frames", "mm_vision_select_layer", "mm_hidden_size"),
    *("mm_projector_type", "mm_newline_position", "head_dim", "layer_types"),
)
_ROPE_FIELDS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
_NESTED_MODELS = ("text_config", "llm_config", "language_config", "vision_config")

_PROJECTOR_TYPE = re.compile(r"tome(?P<tokens>[0-9]{1,6})_mlp_hd64")
CONFIG_SUBJECT = "config.json"


def stored_dtype(config: Mapping[str, Any]) -> str | None:
    """Returns the declared dtype of the tensors (`torch_dtype`; `dtype` in newer files), if any."""
    declared = [config[key] for key in DTYPE_KEYS if config.get(key) is not None]
    return declared[0] if declared else None


def unknown_keys(config: Mapping[str, Any]) -> list[str]:
    """Returns the keys of config.json that are neither read nor known to be irrelevant."""
    known = {*LLM_KEYS, *TINY_KEYS, *_CHECKED, *SUPPORTED, *IRRELEVANT}
    return sorted(config.keys() - known)


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
    _check_model_type(config)
    problems: list[str] = []
    llm = _read_llm(config, problems)
    vision = _read_vision(config, problems)
    tokens = _read_tokens_per_frame(config, problems)
    stored = _read_dtype(config, problems)
    problems += _unsupported_values(config)
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


def _check_model_type(config: Mapping[str, Any]) -> None:
    """Raises ConversionError for another kind of model, where a list of keys would not help."""
    name = config.get("model_type")
    nested = [key for key in _NESTED_MODELS if key in config]
    plain = name is not None and not any(key.startswith("mm_") for key in config)
    if nested or plain or (name is not None and name not in MODEL_TYPES):
        reason = " and no vision encoder (no mm_ keys)" if plain and name in MODEL_TYPES else ""
        problem = (
            f"model_type={name!r}{reason} is another kind of model; supported are XComp and "
            f"VideoChat-Flash, with model_type {', '.join(MODEL_TYPES)} and a mm_vision_tower of "
            f"{', '.join(VISION_TOWERS)}"
        )
        raise ConversionError(CONFIG_SUBJECT, [problem])


def _unsupported_values(config: Mapping[str, Any]) -> list[str]:
    """Returns a problem for each key whose value changes the numbers in an unsupported way."""
    problems = [
        f"{key}={config[key]!r} is not supported; supported: {list(values)}"
        for key, values in SUPPORTED.items()
        if key in config and config[key] not in values
    ]
    newline = config.get("mm_newline_position", "nothing")
    merge = config.get("mm_patch_merge_type", "flat")
    if newline != "nothing" and merge == "spatial_nopad":
        problems.append(
            f"mm_newline_position={newline!r} with mm_patch_merge_type={merge!r} is not "
            "supported; supported: 'nothing'"
        )
    layers = config.get("layer_types")
    if layers is not None and (not isinstance(layers, list) or set(layers) != {"full_attention"}):
        problems.append(f"layer_types={layers!r} is not supported; supported: full_attention")
    heads, size, head_dim = (
        config.get(key) for key in ("num_attention_heads", "hidden_size", "head_dim")
    )
    sizes_known = type(heads) is type(size) is type(head_dim) is int
    if head_dim is not None and not (sizes_known and head_dim * heads == size):
        problems.append(
            f"head_dim={head_dim!r} is not supported; supported: hidden_size / "
            f"num_attention_heads = {size} / {heads}"
        )
    return problems


def _read_dtype(config: Mapping[str, Any], problems: list[str]) -> str | None:
    stored = stored_dtype(config)
    declared = {key: config[key] for key in DTYPE_KEYS if config.get(key) is not None}
    for key, value in declared.items():
        if value not in list(FLOATS):
            problems.append(f"{key}={value!r} is not supported; supported: {sorted(FLOATS)}")
        elif value != stored:
            problems.append(f"{key}={value!r}, but torch_dtype={stored!r}; remove one of them")
    return stored


def _get(config: Mapping[str, Any], key: str, kind: Any, problems: list[str]) -> Any:
    if key not in config:
        problems.append(f"{key} is missing")
        return None
    value: Any = config[key]
    if type(value) is not kind and not (kind is float and type(value) is int):
        problems.append(f"{key}={_short(value)} is not of type {kind.__name__}")
        return None
    if kind is not bool and kind is not str:
        low, high = _RANGES.get(key, _RANGE)
        if not low <= value <= high:
            problems.append(f"{key}={_short(value)} lies outside [{low}, {high}]")
            return None
    return kind(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read_llm(config: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    bases = {"rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
    factors = {"partial_rotary_factor": config.get("partial_rotary_factor")}
    for key in ROPE_KEYS:
        nested = config.get(key)
        if nested is None:
            continue
        if not isinstance(nested, Mapping) or not _is_plain_rope(nested):
            problems.append(f"{key}={_short(nested)} is not supported; supported: default")
            continue
        if "rope_theta" in nested:
            bases[f"{key}.rope_theta"] = nested["rope_theta"]
        factors[f"{key}.partial_rotary_factor"] = nested.get("partial_rotary_factor")
    problems += [
        f"{name}={factor!r} is not supported; supported: 1.0"
        for name, factor in factors.items()
        if factor not in (None, 1)
    ]
    (first, base), *others = bases.items() or [("rope_theta", None)]
    problems += [
        f"{name}={other!r}, but {first}={base!r}; keep the one that the model was trained with"
        for name, other in others
        if other != base
    ]
    config = {**config, "rope_theta": base} if bases else config
    return {key: _get(config, key, kind, problems) for key, kind in LLM_KEYS.items()}


def _is_plain_rope(nested: Mapping[str, Any]) -> bool:
    """Tests for a rotary embedding without any scaling."""
    kinds = [nested[key] for key in ("rope_type", "type") if key in nested]
    return all(kind == "default" for kind in kinds) and nested.keys() <= set(_ROPE_FIELDS)


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
    for key, field in TINY_KEYS.items():
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
