"""original -> ours -> original -> ours, bit for bit; and what the original's code is given."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.convert import torch_model
from tests.convert.conftest import GOLDEN_MODEL
from xcomp_jax.checkpoint import CheckpointError, CheckpointReader, load_params, save_params
from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.__main__ import main
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.to_torch import convert_to_torch

INDEX = "model.safetensors.index.json"


def all_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder, read with the safetensors package."""
    values: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        values |= load_file(path)
    return values


def same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        (a[name].dtype, a[name].shape, a[name].tobytes())
        == (b[name].dtype, b[name].shape, b[name].tobytes())
        for name in a
    )


def flat(params: dict) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def around(source: Path, place: Path, *, shard_bytes: int) -> tuple[Path, Path, Path]:
    """The three folders of a round trip."""
    ours, theirs, again = place / "ours", place / "theirs", place / "again"
    convert_from_torch(str(source), ours)
    convert_to_torch(ours, theirs, max_shard_bytes=shard_bytes)
    convert_from_torch(str(theirs), again)
    return ours, theirs, again


def check_round_trip(source: Path, place: Path, *, shard_bytes: int) -> None:
    ours, theirs, again = around(source, place, shard_bytes=shard_bytes)
    assert same_bits(all_tensors(source), all_tensors(theirs))
    (model, params), (model_again, params_again) = load_params(ours), load_params(again)
    assert model == model_again
    assert same_bits(flat(params), flat(params_again))
    assert json.loads((source / "config.json").read_text()) == json.loads(
        (theirs / "config.json").read_text()
    )


@pytest.mark.parametrize("shard_bytes", [10**9, 10**6])
def test_golden_weights(tmp_path: Path, shard_bytes: int) -> None:
    check_round_trip(GOLDEN_MODEL, tmp_path, shard_bytes=shard_bytes)


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_dtype_and_head(tmp_path: Path, stored: str, tied: bool) -> None:
    source = torch_model.make(
        tmp_path / "source", torch_dtype=stored, tie_word_embeddings=tied, shards=3
    )
    check_round_trip(source, tmp_path, shard_bytes=2000)


def test_same_bits_sees_the_sign_of_zero() -> None:
    """The control: what the tests above compare with tells bits apart, not only values."""
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
def test_any_size(
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
    place = tmp_path_factory.mktemp("any")
    source = torch_model.make(
        place / "source",
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
    check_round_trip(source, place, shard_bytes=shard_bytes)


def test_folder_for_the_original_is_complete(source: Path) -> None:
    place = source.parent
    _, theirs, _ = around(source, place, shard_bytes=2000)
    index = json.loads((theirs / INDEX).read_text())
    files = sorted(path.name for path in theirs.glob("*.safetensors"))
    assert len(files) > 2
    assert files == sorted(set(index["weight_map"].values()))
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    for name, file in index["weight_map"].items():
        with safe_open(theirs / file, "numpy") as opened:
            assert name in opened.keys()  # noqa: SIM118 - safe_open is no mapping
            assert opened.metadata() == {"format": "pt"}
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in all_tensors(theirs).values())
    for name, text in torch_model.COMPANIONS.items():
        assert (theirs / name).read_text() == text
    card = (theirs / "README.md").read_text()
    for file in files:
        assert file in card
    assert sorted(entry.name for entry in place.iterdir()) == ["again", "ours", "source", "theirs"]


def test_hashes_on_the_card_are_those_of_the_files(source: Path) -> None:
    _, theirs, _ = around(source, source.parent, shard_bytes=10**9)
    raw = (theirs / "model.safetensors").read_bytes()
    assert hashlib.sha256(raw).hexdigest() in (theirs / "README.md").read_text()


def test_shards_hold_at_most_what_they_may(source: Path) -> None:
    _, theirs, _ = around(source, source.parent, shard_bytes=3000)
    for path in theirs.glob("*.safetensors"):
        tensors = load_file(path)
        assert len(tensors) == 1 or sum(array.nbytes for array in tensors.values()) <= 3000


def test_change_of_dtype_on_the_way_out(source: Path) -> None:
    ours = source.parent / "ours"
    convert_from_torch(str(source), ours)
    convert_to_torch(ours, source.parent / "half", dtype="float16")
    half, full = all_tensors(source.parent / "half"), all_tensors(source)
    assert same_bits(half, {name: array.astype(np.float16) for name, array in full.items()})
    settings = json.loads((source.parent / "half" / "config.json").read_text())
    assert settings == {**torch_model.CONFIG, "torch_dtype": "float16"}


def refused(ours: Path, **options: object) -> list[str]:
    out = ours.parent / "refused"
    before = sorted(entry.name for entry in ours.parent.iterdir())
    with pytest.raises(ConversionError) as caught:
        convert_to_torch(ours, out, **options)  # type: ignore[arg-type]
    assert sorted(entry.name for entry in ours.parent.iterdir()) == before
    return caught.value.problems


def test_bad_values_are_not_handed_on(tmp_path: Path) -> None:
    source = torch_model.make(tmp_path / "source")
    ours = tmp_path / "ours"
    convert_from_torch(str(source), ours)
    model, params = load_params(ours)
    kernel = np.array(params["llm"]["layers"]["mlp"]["up_proj"]["kernel"])
    kernel[2, 1, 1], kernel[0, 0, 0] = np.nan, 1e30
    params["llm"]["layers"]["mlp"]["up_proj"]["kernel"] = kernel
    save_params(ours, model, params, source={}, overwrite=True)
    name = "model.layers.{}.mlp.up_proj.weight"
    assert refused(ours) == [f"not finite: {name.format(2)!r} has 1 infinite or NaN values"]
    assert refused(ours, dtype="float16") == [
        f"overflow: 1 values of {name.format(0)!r} (float32) are too large for float16; choose a "
        "wider --dtype",
        f"not finite: {name.format(2)!r} has 1 infinite or NaN values",
    ]


def test_mixed_dtypes_need_a_choice(tmp_path: Path) -> None:
    source = torch_model.make(tmp_path / "source")
    ours = tmp_path / "ours"
    convert_from_torch(str(source), ours)
    model, params = load_params(ours)
    params["llm"]["norm"]["scale"] = params["llm"]["norm"]["scale"].astype(np.float16)
    save_params(ours, model, params, source={}, overwrite=True)
    (problem,) = refused(ours)
    assert "the arrays are ['float16', 'float32']; choose" in problem
    convert_to_torch(ours, tmp_path / "theirs", dtype="float32")


def test_damaged_files_of_ours_are_noticed(source: Path) -> None:
    ours = source.parent / "ours"
    convert_from_torch(str(source), ours)
    path = ours / "params" / "llm.embed_tokens.embedding" / "c" / "0" / "0"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"llm/embed_tokens/embedding' cannot be read"):
        convert_to_torch(ours, source.parent / "theirs")
    assert not (source.parent / "theirs").exists()


@pytest.mark.parametrize("array", ["llm.norm.scale", "llm.layers.input_layernorm.scale"])
def test_exchanged_files_of_ours_are_noticed(source: Path, array: str) -> None:
    """Each file is intact, but belongs to another checkpoint."""
    ours, other = source.parent / "ours", source.parent / "other"
    convert_from_torch(str(source), ours)
    convert_from_torch(str(torch_model.make(source.parent / "s2", seed=1)), other)
    shutil.rmtree(ours / "params" / array)
    shutil.copytree(other / "params" / array, ours / "params" / array)
    with pytest.raises(CheckpointError, match=r"was changed after it was saved: its sha256 is"):
        convert_to_torch(ours, source.parent / "theirs")
    assert not (source.parent / "theirs").exists()


def test_a_model_the_original_cannot_build_is_refused(source: Path) -> None:
    convert_from_torch(str(source), source.parent / "ours")
    path = source.parent / "ours" / "config.json"
    values = json.loads(path.read_text())
    values["model"]["vision"]["block_norm_eps"] = 1e-3
    path.write_text(json.dumps(values))
    assert refused(source.parent / "ours") == [
        "vision.block_norm_eps=0.001 cannot be said there, its code has 1e-06"
    ]


def test_a_model_that_was_never_converted_can_be_exported(tmp_path: Path) -> None:
    source = torch_model.make(tmp_path / "source")
    convert_from_torch(str(source), tmp_path / "converted")
    model, params = load_params(tmp_path / "converted")
    save_params(tmp_path / "own", model, params, source={"trained": "from scratch"})
    convert_to_torch(tmp_path / "own", tmp_path / "theirs")
    convert_from_torch(str(tmp_path / "theirs"), tmp_path / "again")
    assert load_params(tmp_path / "again")[0] == model
    settings = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert settings["architectures"] == ["VideoChatFlashQwenForCausalLM"]


def test_command_line(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = str(source.parent / "ours"), str(source.parent / "theirs")
    assert main(["from_torch", str(source), ours]) == 0
    assert main(["to_torch", ours, theirs, "--max-shard-size", "2KB"]) == 0
    assert "file(s)" in capsys.readouterr().out
    assert main(["to_torch", ours, theirs]) == 1
    assert main(["to_torch", str(source), theirs + "2"]) == 1
    assert "not a checkpoint" in capsys.readouterr().err


def test_reader_is_told_the_model(source: Path) -> None:
    convert_from_torch(str(source), source.parent / "ours")
    reader = CheckpointReader(source.parent / "ours")
    assert isinstance(reader.model, ModelConfig)
    assert reader.source["name"] == str(source)
    assert reader.dtypes["llm/norm/scale"] == np.float32
