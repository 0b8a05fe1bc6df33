"""Conversion from PyTorch: values, dtypes and files of a valid checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.convert import torch_model
from tests.convert.conftest import GOLDEN_MODEL, conversion_problems
from tests.convert.torch_model import EMBED, HEAD, NORM, Q_PROJ
from xcomp_jax.checkpoint import load_params
from xcomp_jax.config import CompressionConfig, ModelConfig
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint

Tensors = dict[str, np.ndarray]
Loaded = tuple[Tensors, ModelConfig, dict[str, Any]]

TYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}


@pytest.fixture(scope="module")
def golden() -> Loaded:
    """Loads the recorded model, as tensors of the file and as parameters."""
    model, params = load_torch_checkpoint(GOLDEN_MODEL)
    return load_file(GOLDEN_MODEL / "model.safetensors"), model, params


def stack(tensors: Tensors, pattern: str, count: int) -> np.ndarray:
    return np.stack([tensors[pattern.format(i)] for i in range(count)])


# The tests of the golden model state every layout a second time, independently of the rule table.


def test_llm_parameters_equal_file(golden: Loaded) -> None:
    tensors, model, params = golden
    llm, count = params["llm"], model.llm.num_hidden_layers
    attention, mlp = llm["layers"]["self_attn"], llm["layers"]["mlp"]
    prefix = "model.layers.{}."
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        kernels = stack(tensors, f"{prefix}self_attn.{name}.weight", count).swapaxes(1, 2)
        np.testing.assert_array_equal(attention[name]["kernel"], kernels)
    for name in ("q_proj", "k_proj", "v_proj"):
        biases = stack(tensors, f"{prefix}self_attn.{name}.bias", count)
        np.testing.assert_array_equal(attention[name]["bias"], biases)
    for name in ("gate_proj", "up_proj", "down_proj"):
        kernels = stack(tensors, f"{prefix}mlp.{name}.weight", count).swapaxes(1, 2)
        np.testing.assert_array_equal(mlp[name]["kernel"], kernels)
    for name in ("input_layernorm", "post_attention_layernorm"):
        scales = stack(tensors, f"{prefix}{name}.weight", count)
        np.testing.assert_array_equal(llm["layers"][name]["scale"], scales)
    np.testing.assert_array_equal(llm["embed_tokens"]["embedding"], tensors[EMBED])
    np.testing.assert_array_equal(llm["norm"]["scale"], tensors[NORM])
    assert "lm_head" not in llm


def test_vision_parameters_equal_file(golden: Loaded) -> None:
    tensors, model, params = golden
    vision, count = params["vision"], model.vision.num_blocks
    blocks, attention, mlp = (
        vision["blocks"],
        vision["blocks"]["attn"],
        vision["blocks"]["mlp"],
    )
    tower = "model.vision_tower.vision_tower.encoder."
    prefix = tower + "blocks.{}."
    patches = tensors[tower + "patch_embed.proj.weight"]
    np.testing.assert_array_equal(
        vision["patch_embed"]["kernel"], np.moveaxis(patches[:, :, 0], (0, 1), (3, 2))
    )
    np.testing.assert_array_equal(
        vision["patch_embed"]["bias"], tensors[tower + "patch_embed.proj.bias"]
    )
    for kernel, name in (
        (attention["qkv"]["kernel"], "attn.qkv"),
        (attention["proj"]["kernel"], "attn.proj"),
        (mlp["fc1"]["kernel"], "mlp.fc1"),
        (mlp["fc2"]["kernel"], "mlp.fc2"),
    ):
        kernels = stack(tensors, f"{prefix}{name}.weight", count).swapaxes(1, 2)
        np.testing.assert_array_equal(kernel, kernels)
    for vector, name in (
        (attention["q_bias"], "attn.q_bias"),
        (attention["v_bias"], "attn.v_bias"),
        (attention["proj"]["bias"], "attn.proj.bias"),
        (mlp["fc1"]["bias"], "mlp.fc1.bias"),
        (mlp["fc2"]["bias"], "mlp.fc2.bias"),
        (blocks["norm1"]["scale"], "norm1.weight"),
        (blocks["norm1"]["bias"], "norm1.bias"),
        (blocks["norm2"]["scale"], "norm2.weight"),
        (blocks["norm2"]["bias"], "norm2.bias"),
    ):
        np.testing.assert_array_equal(vector, stack(tensors, prefix + name, count))
    for field, name in (("scale", "weight"), ("bias", "bias")):
        np.testing.assert_array_equal(
            vision["norm"][field], tensors[f"{tower}vision_layernorm.{name}"]
        )


def test_projector_parameters_equal_file(golden: Loaded) -> None:
    tensors, _, params = golden
    for name, index in (("fc1", 0), ("fc2", 2)):
        kernel = tensors[f"model.mm_projector.mlp.{index}.weight"].T
        np.testing.assert_array_equal(params["projector"][name]["kernel"], kernel)
        bias = tensors[f"model.mm_projector.mlp.{index}.bias"]
        np.testing.assert_array_equal(params["projector"][name]["bias"], bias)


def test_parameter_count_equals_file(golden: Loaded) -> None:
    tensors, _, params = golden
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == sum(array.size for array in tensors.values())


def test_untied_head_is_transposed(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", tie_word_embeddings=False)
    _, params = load_torch_checkpoint(folder)
    head = torch_model.read_tensors(folder)[HEAD]
    np.testing.assert_array_equal(params["llm"]["lm_head"]["kernel"], head.T)


@pytest.mark.parametrize("stored", TYPES)
@pytest.mark.parametrize("target", TYPES)
def test_dtype_change_rounds_like_numpy(tmp_path: Path, stored: str, target: str) -> None:
    folder = torch_model.make(tmp_path / "m", torch_dtype=stored)
    model, params = load_torch_checkpoint(folder, dtype=target)
    kernel = params["llm"]["layers"]["self_attn"]["q_proj"]["kernel"]
    expected = torch_model.read_tensors(folder)[Q_PROJ].T.astype(TYPES[target])
    assert kernel.dtype == TYPES[target]
    assert kernel[1].tobytes() == np.ascontiguousarray(expected).tobytes()
    assert model.dtype == ("bfloat16" if target == "bfloat16" else "float32")


def test_shards_equal_single_file(tmp_path: Path) -> None:
    single = load_torch_checkpoint(torch_model.make(tmp_path / "single"))
    sharded = load_torch_checkpoint(torch_model.make(tmp_path / "sharded", shards=5))
    other = load_torch_checkpoint(torch_model.make(tmp_path / "other", seed=1))
    assert single[0] == sharded[0]
    jax.tree.map(np.testing.assert_array_equal, single[1], sharded[1])
    with pytest.raises(AssertionError):
        jax.tree.map(np.testing.assert_array_equal, single[1], other[1])


def test_overrides_and_config_replace_folder(source: Path) -> None:
    settings = torch_model.config(vocab_size=30, tie_word_embeddings=False)
    table = np.arange(240, dtype=np.float32).reshape(30, 8)
    model, params = load_torch_checkpoint(
        source, config=settings, overrides={EMBED: table, HEAD: table + 1}
    )
    assert model.llm.vocab_size == 30
    np.testing.assert_array_equal(params["llm"]["embed_tokens"]["embedding"], table)
    np.testing.assert_array_equal(params["llm"]["lm_head"]["kernel"], (table + 1).T)
    with pytest.raises(ConversionError, match="wrong shape"):
        load_torch_checkpoint(source, config=settings, overrides={HEAD: table})


def test_converted_folder_is_complete(source: Path) -> None:
    out = source.parent / "out"
    compression = CompressionConfig(schedule="none")
    convert_from_torch(str(source), out, compression=compression)
    model, params = load_params(out)
    expected_model, expected = load_torch_checkpoint(source, compression=compression)
    assert model == expected_model
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    for name, text in torch_model.COMPANIONS.items():
        assert (out / name).read_text() == text
    values = json.loads((out / "config.json").read_text())
    assert values["source"]["hf_config"] == torch_model.CONFIG
    card = (out / "README.md").read_text()
    assert values["source"]["files"][0]["sha256"] in card
    assert str(source) in card
    assert "llm.hidden_size | 8" in card


def test_saved_tied_head_must_be_a_copy(source: Path) -> None:
    table = torch_model.read_tensors(source)[EMBED]
    torch_model.rewrite(source, **{HEAD: table})
    _, params = load_torch_checkpoint(source)
    assert "lm_head" not in params["llm"]
    table[3, 4] = np.nextafter(table[3, 4], np.float32(9))
    torch_model.rewrite(source, **{HEAD: table})
    assert conversion_problems(source) == [
        f"{HEAD!r} differs from {EMBED!r}, but the configuration ties them "
        "(tie_word_embeddings=true)"
    ]
