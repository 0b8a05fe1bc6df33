"""Conversion between a PyTorch config.json and ModelConfig."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.convert import torch_model
from tests.convert.conftest import GOLDEN_MODEL
from xcomp_jax.config import CompressionConfig, ModelConfig, VisionConfig
from xcomp_jax.convert.config import to_model_config
from xcomp_jax.convert.config_export import to_hf_config
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.variants import VARIANTS

PUBLISHED_2B = {
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "mm_hidden_size": 1024,
    "mm_local_num_frames": 4,
    "mm_projector_type": "tome16_mlp_hd64",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "umt-hd-large",
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}


def test_published_2b_equals_default_model() -> None:
    expected = ModelConfig(vision=VisionConfig(clip_frames=4))
    assert to_model_config(PUBLISHED_2B) == expected
    none = CompressionConfig(schedule="none")
    assert to_model_config(PUBLISHED_2B, compression=none).compression == none


def test_golden_config_has_tiny_sizes() -> None:
    model = to_model_config(json.loads((GOLDEN_MODEL / "config.json").read_text()))
    assert (model.vision.image_size, model.vision.num_blocks, model.vision.width) == (112, 3, 64)
    assert (model.llm.vocab_size, model.llm.head_dim, model.dtype) == (320, 16, "float32")
    assert model.projector.tokens_per_frame == 16


@pytest.mark.parametrize(
    ("changes", "value", "expected"),
    [
        ({"mm_vision_tower": "umt-large"}, "vision.image_size", 224),
        ({"mm_local_num_frames": 8}, "vision.clip_frames", 8),
        ({"mm_vision_select_layer": -1}, "vision.num_blocks", 24),
        ({"mm_projector_type": "tome64_mlp_hd64"}, "projector.tokens_per_frame", 64),
        ({"rope_theta": 10000}, "llm.rope_theta", 10000.0),
        ({"rms_norm_eps": 1e-5}, "llm.rms_norm_eps", 1e-5),
        ({"torch_dtype": "float16"}, "dtype", "float32"),
        ({"tie_word_embeddings": False}, "llm.tie_word_embeddings", False),
    ],
)
def test_key_sets_model_field(changes: dict[str, Any], value: str, expected: Any) -> None:
    def look_up(config: dict[str, Any]) -> Any:
        node: Any = to_model_config(config)
        for name in value.split("."):
            node = getattr(node, name)
        return node

    assert look_up({**PUBLISHED_2B, **changes}) == expected
    assert look_up(PUBLISHED_2B) != expected


def test_config_of_transformers_5_round_trips() -> None:
    newer = {k: v for k, v in PUBLISHED_2B.items() if k not in ("rope_theta", "torch_dtype")}
    newer |= {
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"},
        "dtype": "bfloat16",
    }
    model = to_model_config(newer)
    assert (model.llm.rope_theta, model.dtype) == (5e5, "bfloat16")
    assert to_hf_config(model, stored="bfloat16", base=newer) == newer


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConversionError) as caught:
        to_model_config(config)
    return caught.value.problems


@pytest.mark.parametrize("key", [k for k in PUBLISHED_2B if k not in (
    "hidden_act", "mm_hidden_size", "torch_dtype")])  # fmt: skip
def test_missing_key_is_named(key: str) -> None:
    assert problems({k: v for k, v in PUBLISHED_2B.items() if k != key}) == [f"{key} is missing"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mm_vision_tower": "siglip"},
            "'siglip' is not supported; supported: ['internvideo2', 'umt-hd",
        ),
        ({"mm_projector_type": "mlp2x_gelu"}, "mm_projector_type='mlp2x_gelu' is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported; supported: ['silu']"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling={'type': 'yarn'} is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "is not supported; supported: default"),
        ({"use_sliding_window": True}, "use_sliding_window=True is not supported"),
        ({"torch_dtype": "int8"}, "torch_dtype='int8' is not supported; supported"),
        ({"hidden_size": "1536"}, "hidden_size='1536' is not of type int"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings=1 is not of type bool"),
        ({"num_hidden_layers": True}, "num_hidden_layers=True is not of type int"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers=1000000 lies outside [1, 1000]"),
        ({"vocab_size": 0}, "vocab_size=0 lies outside"),
        ({"rope_theta": float("inf")}, "rope_theta=inf lies outside"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan lies outside"),
        ({"mm_hidden_size": 768}, "mm_hidden_size=768, but 'umt-hd-large' has width 1024"),
        ({"num_attention_heads": 7}, "must divide llm.hidden_size=1536"),
        ({"num_attention_heads": 16, "num_key_value_heads": 5}, "num_key_value_heads=5 must"),
        ({"mm_vision_select_layer": -30}, "vision.select_layer=-30 must lie in [-24, -1]"),
        ({"mm_projector_type": "tome784_mlp_hd64"}, "token merging has to merge"),
    ],
)
def test_invalid_value_is_rejected(changes: dict[str, Any], message: str) -> None:
    (problem,) = problems({**PUBLISHED_2B, **changes})
    assert message in problem


def test_all_config_problems_are_listed() -> None:
    broken = {**PUBLISHED_2B, "hidden_act": "gelu", "vocab_size": None, "mm_vision_tower": "clip"}
    del broken["rope_theta"]
    assert len(problems(broken)) == 4


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_variant_config_round_trips(variant: Any) -> None:
    model = variant.model
    for base in (None, PUBLISHED_2B):
        config = json.loads(json.dumps(to_hf_config(model, stored="bfloat16", base=base)))
        assert to_model_config(config, compression=model.compression) == model


def test_model_unknown_to_pytorch_is_rejected() -> None:
    vision = VisionConfig(patch_size=8, mlp_ratio=2.0)
    with pytest.raises(ConversionError) as caught:
        to_hf_config(ModelConfig(vision=vision), stored="float32")
    assert caught.value.problems == [
        "vision.patch_size=8 cannot be exported, the PyTorch code has 16",
        "vision.mlp_ratio=2.0 cannot be exported, the PyTorch code has 4.0",
    ]
    with pytest.raises(ConversionError, match=r"tiny_image_size=896 lies outside \[1, 448\]"):
        to_hf_config(ModelConfig(vision=VisionConfig(image_size=896)), stored="float32")


def test_unread_keys_are_kept(tmp_path: Path) -> None:
    base = torch_model.config(auto_map={"AutoConfig": "x.Y"}, mm_pos_num_frames=8)
    model = to_model_config(base)
    assert to_hf_config(model, stored="float32", base=base) == base
    assert list(to_hf_config(model, stored="float32", base=base)) == list(base)
