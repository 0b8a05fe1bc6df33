"""Keys of config.json: each one is used, refused, or known not to change the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert import torch_model
from tests.convert.conftest import GOLDEN_MODEL, conversion_problems
from xcomp_jax.checkpoint.strict_json import format_json, parse_json
from xcomp_jax.cli.main import main
from xcomp_jax.convert.config import to_model_config, unknown_keys
from xcomp_jax.convert.config_export import to_hf_config
from xcomp_jax.convert.config_keys import IRRELEVANT
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import load_torch_checkpoint

GOLDEN: dict[str, Any] = json.loads((GOLDEN_MODEL / "config.json").read_text())
USED = {
    "vocab_size": 640,
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 14,
    "num_attention_heads": 2,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "mm_local_num_frames": 8,
    "mm_projector_type": "tome8_mlp_hd64",
    "mm_vision_select_layer": -1,
    "tiny_image_size": 96,
    "tiny_vision_num_layers": 6,
    "tiny_vision_num_heads": 2,
}
EXTRA = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
    "attention_bias": True,
    "head_dim": GOLDEN["hidden_size"] // GOLDEN["num_attention_heads"],
    "layer_types": ["full_attention"] * GOLDEN["num_hidden_layers"],
    "dtype": "float32",
    "pruned_heads": {},
}


def other_values(key: str, value: Any) -> list[Any]:
    """Returns values unlike `value`, of the same type and of others."""
    candidates = {
        bool: [not value],
        int: [value + 1 if isinstance(value, int) else 0, 0, -1],
        float: [value * 2 if isinstance(value, float) else 0.0, 0.0],
        str: ["other", ""],
        list: [["other"], []],
        dict: [{"rope_type": "yarn"}, {"quant_method": "gptq"}],
        type(None): [],
    }[type(value)]
    candidates = [*candidates, {"a": 1}, "text", [1], 0.5, 3]
    return [item for item in candidates if item != value]


@pytest.mark.parametrize("key", sorted({**GOLDEN, **EXTRA}))
def test_changed_key_is_used_refused_or_irrelevant(key: str) -> None:
    config = {**GOLDEN, **EXTRA}
    if key == "rope_theta":  # Contradicts the second place; alone it is used.
        del config["rope_parameters"]
    if key == "torch_dtype":
        del config["dtype"]
    model = to_model_config(config)
    for value in other_values(key, config[key]):
        problem, changed = refusal({**config, key: value})
        if problem:
            assert key not in IRRELEVANT
            assert field_name(key) in problem
        else:
            assert (changed != model) == (key not in IRRELEVANT), (key, value)


def refusal(config: dict[str, Any]) -> tuple[str, Any]:
    try:
        return "", to_model_config(config)
    except ConversionError as error:
        return str(error), None


def field_name(key: str) -> str:
    """Returns the part of a key that messages share with the field of ModelConfig."""
    return key.removeprefix("tiny_").removeprefix("vision_").removesuffix("hidden_size")


@pytest.mark.parametrize("key", USED)
def test_used_key_changes_the_model(key: str) -> None:
    assert to_model_config({**GOLDEN, key: USED[key]}) != to_model_config(GOLDEN)


def test_golden_config_has_no_unknown_key() -> None:
    assert unknown_keys({**GOLDEN, **EXTRA}) == []
    assert unknown_keys({**GOLDEN, "attention_sinks": 4, "zeta": 1}) == ["attention_sinks", "zeta"]


def test_unknown_key_is_named(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_torch_checkpoint(source)
    assert not caplog.records
    torch_model.configure(source, attention_sinks=4)
    load_torch_checkpoint(source)
    assert "config.json has keys that are not read: attention_sinks." in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}},
            "rope_parameters.rope_theta=1000000.0, but rope_theta=10000.0; keep the one",
        ),
        (
            {"rope_scaling": {"rope_type": "default", "rope_theta": 5.0}},
            "rope_scaling.rope_theta=5.0, but rope_theta=1000000.0",
        ),
        ({"rope_parameters": {"type": "yarn"}}, "rope_parameters={'type': 'yarn'} is not supp"),
        ({"rope_scaling": {"type": "default", "factor": 4.0}}, "'factor': 4.0} is not supported"),
        ({"rope_parameters": {"full_attention": {}}}, "is not supported; supported: default"),
        ({"rope_parameters": [1]}, "rope_parameters=[1] is not supported; supported: default"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported; support"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "rope_parameters.partial_rotary_factor=0.5 is not supported; supported: 1.0",
        ),
        ({"quantization_config": {"bits": 4}}, "quantization_config={'bits': 4} is not supported"),
        ({"dtype": "bfloat16"}, "dtype='bfloat16', but torch_dtype='float32'; remove one"),
        ({"dtype": "int8"}, "dtype='int8' is not supported; supported: ['bfloat16'"),
        ({"attention_bias": False}, "attention_bias=False is not supported; supported: [True]"),
        ({"head_dim": 16}, "head_dim=16 is not supported; supported: hidden_size / num_att"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "'sliding_attention'] is not"),
        ({"mm_newline_position": "frame", "mm_patch_merge_type": "spatial_nopad"},
         "mm_newline_position='frame' with mm_patch_merge_type='spatial_nopad' is not supp"),
        ({"rope_theta": 10**400}, "rope_theta=1000"),
    ],
)  # fmt: skip
def test_key_that_changes_numbers_is_refused(
    source: Path, changes: dict[str, Any], message: str
) -> None:
    torch_model.configure(source, **changes)
    (problem,) = conversion_problems(source)
    assert message in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": {"rope_type": "default"}},
        {"rope_scaling": {"type": "default", "rope_type": "default"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope_parameters": None, "rope_scaling": None},
        {"partial_rotary_factor": 1.0},
        {"dtype": "float32"},
        {"mm_newline_position": "one_token", "mm_patch_merge_type": "flat"},
        {"sliding_window": 4, "max_window_layers": 1},
    ],
)
def test_harmless_value_is_accepted(source: Path, changes: dict[str, Any]) -> None:
    before = load_torch_checkpoint(source)[0]
    torch_model.configure(source, **changes)
    assert load_torch_checkpoint(source)[0] == before


def test_training_config_of_the_original_is_accepted() -> None:
    """The release has two sets of these keys for the same model."""
    changes = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "qwen2",
        "mm_newline_position": "one_token",
        "mm_patch_merge_type": "flat",
        "image_aspect_ratio": "square",
    }
    assert to_model_config({**GOLDEN, **changes}) == to_model_config(GOLDEN)


def test_both_places_of_a_value_are_written() -> None:
    base = {**GOLDEN, **EXTRA}
    model = to_model_config({**GOLDEN, "rope_theta": 5e5})
    written = to_hf_config(model, stored="bfloat16", base=base)
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 5e5
    assert written["dtype"] == written["torch_dtype"] == "bfloat16"
    assert to_model_config(written).llm == model.llm


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen2_vl"}, "model_type='qwen2_vl' is another kind of model"),
        ({"model_type": "llava_next_video", "text_config": {}}, "model_type='llava_next_video' is"),
        ({"text_config": {"model_type": "qwen2"}}, "is another kind of model"),
    ],
)
def test_other_model_is_named_alone(source: Path, changes: dict[str, Any], reason: str) -> None:
    torch_model.configure(source, **changes)
    (problem,) = conversion_problems(source)
    assert reason in problem
    assert "supported are XComp and VideoChat-Flash" in problem


def test_plain_qwen2_is_named(source: Path) -> None:
    plain = {k: v for k, v in torch_model.CONFIG.items() if not k.startswith(("mm_", "tiny_"))}
    (source / "config.json").write_text(json.dumps({**plain, "model_type": "qwen2"}))
    (problem,) = conversion_problems(source)
    assert "model_type='qwen2' and no vision encoder (no mm_ keys) is another kind" in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"rope_theta": 1, "rope_theta": 2}', r"duplicate key 'rope_theta' .* \[1, 2\]"),
        (b'{"a": {"b": 1, "b": 1}}', "duplicate key 'b'"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\xff"}', "not UTF-8 text, invalid start byte at byte 7"),
        (b"[" * 200_000, "nested too deeply"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_readers_disagree_on_is_rejected(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_json_is_written_strictly() -> None:
    value = {"a": [1, 2.5, None, "é"], "b": {"c": True}}
    assert parse_json(format_json(value).encode()) == value
    assert parse_json(b"\xef\xbb\xbf" + format_json(value).encode()) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_json({"a": float("nan")})


def test_report_of_non_finite_tensor_is_strict_json(source: Path, tmp_path: Path) -> None:
    other = torch_model.make(tmp_path / "other")
    torch_model.rewrite(other, **{torch_model.NORM: np.full(8, np.nan, np.float32)})
    report = tmp_path / "report"
    assert main(["convert", "verify", str(source), str(other), "--report", str(report)]) == 1
    tensors = parse_json(report.with_suffix(".json").read_bytes())["tensors"]
    (row,) = [row for row in tensors if row["name"] == torch_model.NORM]
    assert row["b"] == {"mean": None, "std": None, "min": None, "max": None, "non_finite": 8}
