"""Export to PyTorch: files, dtypes, shards, and errors of damaged or unsupported checkpoints."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.convert import torch_model
from tests.convert.conftest import entries
from tests.convert.torch_model import read_tensors, same_bits
from xcomp_jax.checkpoint import (
    FROM_TORCH,
    CheckpointError,
    CheckpointReader,
    load_params,
    save_params,
)
from xcomp_jax.cli.main import main
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.to_torch import convert_to_torch

INDEX = "model.safetensors.index.json"


@pytest.fixture
def checkpoint(source: Path) -> Path:
    """Converts a small checkpoint to XComp-JAX."""
    out = source.parent / "jax"
    convert_from_torch(str(source), out)
    return out


def export(checkpoint: Path, **options: Any) -> Path:
    out = checkpoint.parent / "torch"
    convert_to_torch(checkpoint, out, **options)
    return out


def export_problems(checkpoint: Path, **options: Any) -> list[str]:
    """Returns the problems of a rejected export and checks that nothing was written."""
    before = entries(checkpoint.parent)
    with pytest.raises(ConversionError) as caught:
        export(checkpoint, **options)
    assert entries(checkpoint.parent) == before
    return caught.value.problems


def test_exported_folder_is_complete(checkpoint: Path) -> None:
    out = export(checkpoint, max_shard_bytes=2000)
    index = json.loads((out / INDEX).read_text())
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert len(files) > 2
    assert files == sorted(set(index["weight_map"].values()))
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    for name, file in index["weight_map"].items():
        with safe_open(out / file, "numpy") as opened:
            assert name in opened.keys()  # noqa: SIM118 - safe_open is not a mapping
            assert opened.metadata() == {"format": "pt"}
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in read_tensors(out).values())
    for name, text in torch_model.COMPANIONS.items():
        assert (out / name).read_text() == text
    card = (out / "README.md").read_text()
    for file in files:
        assert file in card
    assert entries(out.parent) == ["jax", "source", "torch"]


def test_model_card_has_sha256_of_file(checkpoint: Path) -> None:
    out = export(checkpoint)
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (out / "README.md").read_text()


def test_shards_respect_size_limit(checkpoint: Path) -> None:
    for path in export(checkpoint, max_shard_bytes=3000).glob("*.safetensors"):
        tensors = load_file(path)
        assert len(tensors) == 1 or sum(array.nbytes for array in tensors.values()) <= 3000


def test_dtype_option_casts_tensors(source: Path, checkpoint: Path) -> None:
    out = export(checkpoint, dtype="float16")
    expected = {name: array.astype(np.float16) for name, array in read_tensors(source).items()}
    assert same_bits(read_tensors(out), expected)
    config = json.loads((out / "config.json").read_text())
    assert config == {**torch_model.CONFIG, "torch_dtype": "float16"}


def test_non_finite_values_are_rejected(checkpoint: Path) -> None:
    model, params = load_params(checkpoint)
    kernel = np.array(params["llm"]["layers"]["mlp"]["up_proj"]["kernel"])
    kernel[2, 1, 1], kernel[0, 0, 0] = np.nan, 1e30
    params["llm"]["layers"]["mlp"]["up_proj"]["kernel"] = kernel
    save_params(checkpoint, model, params, source={}, writer=FROM_TORCH, overwrite=True)
    name = "model.layers.{}.mlp.up_proj.weight"
    not_finite = f"not finite: {name.format(2)!r} has 1 infinite or NaN values"
    assert export_problems(checkpoint) == [not_finite]
    assert export_problems(checkpoint, dtype="float16") == [
        f"overflow: 1 values of {name.format(0)!r} (float32) are too large for float16; choose a "
        "wider --dtype",
        not_finite,
    ]


def test_mixed_dtypes_require_dtype_option(checkpoint: Path) -> None:
    model, params = load_params(checkpoint)
    params["llm"]["norm"]["scale"] = params["llm"]["norm"]["scale"].astype(np.float16)
    save_params(checkpoint, model, params, source={}, writer=FROM_TORCH, overwrite=True)
    (problem,) = export_problems(checkpoint)
    assert "parameters are ['float16', 'float32']; choose one of" in problem
    export(checkpoint, dtype="float32")


def test_damaged_parameter_file_is_rejected(checkpoint: Path) -> None:
    path = checkpoint / "params" / "llm.embed_tokens.embedding" / "c" / "0" / "0"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"llm/embed_tokens/embedding' cannot be read"):
        export(checkpoint)
    assert not (checkpoint.parent / "torch").exists()


@pytest.mark.parametrize("array", ["llm.norm.scale", "llm.layers.input_layernorm.scale"])
def test_parameter_of_other_checkpoint_is_rejected(checkpoint: Path, array: str) -> None:
    other = checkpoint.parent / "other"
    convert_from_torch(str(torch_model.make(checkpoint.parent / "source-2", seed=1)), other)
    shutil.rmtree(checkpoint / "params" / array)
    shutil.copytree(other / "params" / array, checkpoint / "params" / array)
    with pytest.raises(CheckpointError, match=r"was changed or exchanged after saving"):
        export(checkpoint)
    # Folders of earlier versions list no files, only the sha256 of whole arrays.
    config = checkpoint / "config.json"
    values = json.loads(config.read_text())
    del values["files"]
    config.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"was modified after saving: its sha256 is"):
        export(checkpoint)
    assert not (checkpoint.parent / "torch").exists()


def test_model_unknown_to_pytorch_is_rejected(checkpoint: Path) -> None:
    path = checkpoint / "config.json"
    values = json.loads(path.read_text())
    values["model"]["vision"]["block_norm_eps"] = 1e-3
    path.write_text(json.dumps(values))
    assert export_problems(checkpoint) == [
        "vision.block_norm_eps=0.001 cannot be exported, the PyTorch code has 1e-06"
    ]


def test_to_torch_returns_exit_codes(
    source: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, out = ["convert", "to-torch"], str(checkpoint.parent / "torch")
    assert main([*command, str(checkpoint), out, "--max-shard-size", "2KB"]) == 0
    assert "file(s)" in capsys.readouterr().out
    assert main([*command, str(checkpoint), out]) == 2
    assert main([*command, str(source), out + "-2"]) == 2
    assert "not a checkpoint" in capsys.readouterr().err


def test_reader_returns_origin_and_dtypes(source: Path, checkpoint: Path) -> None:
    reader = CheckpointReader(checkpoint)
    assert reader.source["name"] == str(source)
    assert reader.dtypes["llm/norm/scale"] == np.float32
