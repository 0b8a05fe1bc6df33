"""Round trip PyTorch -> XComp-JAX -> PyTorch -> XComp-JAX, compared bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.convert import torch_model
from tests.convert.conftest import GOLDEN_MODEL
from tests.convert.torch_model import read_tensors, same_bits
from xcomp_jax.checkpoint import load_params, save_params
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.to_torch import convert_to_torch


def flat(params: dict[str, Any]) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def check_round_trip(source: Path, folder: Path, *, shard_bytes: int) -> None:
    convert_from_torch(str(source), folder / "jax")
    convert_to_torch(folder / "jax", folder / "torch", max_shard_bytes=shard_bytes)
    convert_from_torch(str(folder / "torch"), folder / "jax-2")
    assert same_bits(read_tensors(source), read_tensors(folder / "torch"))
    model, params = load_params(folder / "jax")
    second_model, second_params = load_params(folder / "jax-2")
    assert model == second_model
    assert same_bits(flat(params), flat(second_params))
    configs = [(path / "config.json").read_text() for path in (source, folder / "torch")]
    assert json.loads(configs[0]) == json.loads(configs[1])


@pytest.mark.parametrize("shard_bytes", [10**9, 10**6])
def test_golden_weights_round_trip(tmp_path: Path, shard_bytes: int) -> None:
    check_round_trip(GOLDEN_MODEL, tmp_path, shard_bytes=shard_bytes)


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_dtype_and_head_round_trips(tmp_path: Path, stored: str, tied: bool) -> None:
    source = torch_model.make(
        tmp_path / "source", torch_dtype=stored, tie_word_embeddings=tied, shards=3
    )
    check_round_trip(source, tmp_path, shard_bytes=2000)


def test_same_bits_distinguishes_sign_of_zero() -> None:
    """Control: the comparison above covers bits, not only values."""
    zero = {"w": np.zeros(3, np.float32)}
    assert same_bits(zero, {"w": np.zeros(3, np.float32)})
    assert not same_bits(zero, {"w": -np.zeros(3, np.float32)})
    assert not same_bits(zero, {"w": np.zeros(3, np.float16)})


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([2, 4]),
    layers=st.integers(1, 4),
    hidden=st.integers(1, 9),
    vocab=st.integers(1, 40),
    depth=st.integers(2, 4),
    tied=st.booleans(),
    shard_bytes=st.integers(1, 5000),
    stored=st.sampled_from(["float32", "float16", "bfloat16"]),
)
def test_any_size_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    heads: int,
    head_dim: int,
    layers: int,
    hidden: int,
    vocab: int,
    depth: int,
    tied: bool,
    shard_bytes: int,
    stored: str,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    source = torch_model.make(
        folder / "source",
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_key_value_heads=1,
        num_hidden_layers=layers,
        intermediate_size=hidden,
        vocab_size=vocab,
        tiny_vision_num_layers=depth,
        tie_word_embeddings=tied,
        torch_dtype=stored,
    )
    check_round_trip(source, folder, shard_bytes=shard_bytes)


def test_never_converted_model_round_trips(source: Path) -> None:
    folder = source.parent
    convert_from_torch(str(source), folder / "converted")
    model, params = load_params(folder / "converted")
    save_params(folder / "trained", model, params, source={"trained": "from scratch"})
    convert_to_torch(folder / "trained", folder / "torch")
    convert_from_torch(str(folder / "torch"), folder / "again")
    assert load_params(folder / "again")[0] == model
    config = json.loads((folder / "torch" / "config.json").read_text())
    assert config["architectures"] == ["VideoChatFlashQwenForCausalLM"]
