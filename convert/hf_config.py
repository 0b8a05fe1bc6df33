"""The original's config.json and our ModelConfig, in both directions.

Only what decides shapes and arithmetic is read. LP-Comp is not in the original's file (it is chosen
by environment variables there), so the compression is an argument here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from xcomp_jax.config import (
    CompressionConfig,
    ConfigError,
    LLMConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from xcomp_jax.convert.dtypes import FLOATS, compute_dtype
from xcomp_jax.convert.errors import ConversionError, refuse
from xcomp_jax.convert.fields import differing_fields

VISION_TOWERS: dict[str, VisionConfig] = {
    "umt-hd-large": VisionConfig(image_size=448),
    "umt-large": VisionConfig(image_size=224),
    "internvideo2": VisionConfig(
        architecture="internvideo2",
        image_size=224,
        patch_size=14,
        width=1408,
        depth=40,
        mlp_ratio=48 / 11,
        clip_frames=4,
    ),
}

# Sizes that the original hard codes; recorded tiny models carry them under these keys.
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

# Far beyond any model, but small enough that a wrong or hostile file is refused before anything of
# that size is built.
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

# Keys whose other values mean arithmetic that is not built; absent means the first value.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "rope_scaling": (None,),
    "use_sliding_window": (False,),
    "mm_vision_select_feature": ("patch",),
}

_PROJECTOR_TYPE = re.compile(r"tome(?P<tokens>[0-9]{1,6})_mlp_hd64")
PROJECTOR_HEAD_DIM = 64


def stored_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype the file says its tensors have (`torch_dtype`, newer files: `dtype`), if any."""
    return config.get("torch_dtype", config.get("dtype"))


def to_model_config(
    config: Mapping[str, Any], *, compression: CompressionConfig | None = None
) -> ModelConfig:
    """The ModelConfig that an original config.json describes.

    Args:
        config: the parsed file.
        compression: LP-Comp of the model; default the published one, `CompressionConfig()`.

    Raises:
        ConversionError: listing every key that is missing, ill-typed, unsupported or contradictory.
    """
    problems: list[str] = []
    llm = _read_llm(config, problems)
    vision = _read_vision(config, problems)
    tokens = _read_tokens_per_frame(config, problems)
    stored = stored_dtype(config)
    if stored is not None and stored not in list(FLOATS):
        problems.append(f"torch_dtype={stored!r}; known: {sorted(FLOATS)}")
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
    raise ConversionError("config.json of the original", problems)


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
    # Files of transformers 5 keep the base of the rotary embedding one level deeper.
    nested = config.get("rope_parameters")
    if isinstance(nested, Mapping):
        if nested.get("rope_type", "default") != "default":
            problems.append(f"rope_parameters={dict(nested)} is not supported; supported: default")
        config = {"rope_theta": nested.get("rope_theta"), **config}
    return {key: _get(config, key, kind, problems) for key, kind in _LLM_KEYS.items()}


def _read_vision(config: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    name = _get(config, "mm_vision_tower", str, problems)
    if name is not None and name not in VISION_TOWERS:
        problems.append(f"mm_vision_tower={name!r} is not built; known: {sorted(VISION_TOWERS)}")
    tower = VISION_TOWERS.get(name, VisionConfig())
    fields: dict[str, Any] = dataclasses.asdict(tower) | {
        "clip_frames": _get(config, "mm_local_num_frames", int, problems),
        "select_layer": _get(config, "mm_vision_select_layer", int, problems),
    }
    for key, field in _TINY_KEYS.items():
        if key in config:
            fields[field] = _get(config, key, int, problems)
    said = config.get("mm_hidden_size", fields["width"])
    if said != fields["width"]:
        problems.append(f"mm_hidden_size={said!r}, but {name!r} has width {fields['width']}")
    return fields


def _read_tokens_per_frame(config: Mapping[str, Any], problems: list[str]) -> int:
    kind = _get(config, "mm_projector_type", str, problems)
    match = _PROJECTOR_TYPE.fullmatch(kind or "")
    if kind is not None and match is None:
        problems.append(
            f"mm_projector_type={kind!r} is not supported; known: tome<tokens>_mlp_hd64"
        )
    return int(match["tokens"]) if match else 1


def to_hf_config(
    model: ModelConfig, *, stored: str, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A config.json for the original's code.

    Args:
        model: what to describe.
        stored: dtype of the written tensors.
        base: the config.json this model came from; everything it says beyond `model` is kept.
            Without it a complete file is made from the published values.

    Raises:
        ConversionError: the original's code has no such model.
    """
    config = dict(_PUBLISHED if base is None else base)
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
    """The original hard codes much of its encoder: reading the file back must give this model."""
    tower = dataclasses.asdict(VISION_TOWERS[config["mm_vision_tower"]])
    refuse(
        "config.json of the original",
        [
            f"vision.{name}={value!r} cannot be said there, its code has {tower[name]!r}"
            for name, value in dataclasses.asdict(model.vision).items()
            if name not in _VISION_FIELDS and value != tower[name]
        ],
    )
    described = to_model_config(config, compression=model.compression)
    assert not differing_fields(model, described, without=("dtype",)), (model, described)


def _tower_name(said: str | None, vision: VisionConfig) -> str:
    alike = [n for n, t in VISION_TOWERS.items() if t.architecture == vision.architecture]
    if said in alike:
        return said
    same_size = [n for n in alike if VISION_TOWERS[n].image_size == vision.image_size]
    return [*same_size, *alike][0]


# A model that was never converted has no file to start from.
_PUBLISHED: dict[str, Any] = {
    "architectures": ["VideoChatFlashQwenForCausalLM"],
    "model_type": "videochat_flash_qwen",
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "frame_aspect_ratio": "square",
    "hidden_act": "silu",
    "image_aspect_ratio": "square",
    "initializer_range": 0.02,
    "max_position_embeddings": 131072,
    "mm_llm_compress": False,
    "mm_newline_position": "nothing",
    "mm_patch_merge_type": "spatial_nopad",
    "mm_pos_num_frames": 8,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "rope_scaling": None,
    "sliding_window": None,
    "tokenizer_model_max_length": 131072,
    "tokenizer_padding_side": "right",
    "use_cache": True,
    "use_mm_proj": True,
    "use_sliding_window": False,
    "vision_encode_type": "video_image",
}
