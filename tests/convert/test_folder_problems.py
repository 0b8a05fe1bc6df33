"""Conversion from PyTorch: errors for missing, contradictory and pickled files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.convert import torch_model
from tests.convert.conftest import conversion_problems
from tests.convert.torch_model import NORM
from xcomp_jax.convert.from_torch import convert_from_torch


def test_config_and_weight_problems_are_listed(source: Path) -> None:
    torch_model.configure(source, hidden_act="gelu", rope_theta="big")
    raw = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(raw[:-8])
    problems = conversion_problems(source)
    assert len(problems) >= 3
    assert any("hidden_act='gelu'" in problem for problem in problems)
    assert any("rope_theta='big'" in problem for problem in problems)
    assert any("lie outside" in problem for problem in problems)


def test_folder_without_weights_is_rejected(source: Path) -> None:
    (source / "model.safetensors").unlink()
    (problem,) = conversion_problems(source)
    assert "neither model.safetensors nor model.safetensors.index.json" in problem


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickles_are_never_loaded(source: Path, name: str) -> None:
    (source / "model.safetensors").unlink()
    (source / name).write_bytes(b"cos\nsystem\n(S'touch broken'\ntR.")
    (problem,) = conversion_problems(source)
    assert f"contains only pickled weights ['{name}'], which are never loaded" in (problem)
    assert not Path("broken").exists()


def test_pickles_and_code_are_not_copied(source: Path) -> None:
    (source / "pytorch_model.bin").write_bytes(b"anything")
    (source / "modeling_own.py").write_text("raise SystemExit('executed')")
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    assert not list(out.rglob("*.py"))
    assert not list(out.rglob("*.bin"))


def test_single_file_with_shards_is_rejected(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    shutil.copy(torch_model.make(tmp_path / "one") / "model.safetensors", folder)
    (problem,) = conversion_problems(folder)
    assert "both model.safetensors and model.safetensors.index.json" in problem


INDEX = "model.safetensors.index.json"


def edit_index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    path = folder / INDEX
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_missing_shard_is_listed(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    (problem,) = conversion_problems(folder)
    assert "1 of its 3 shards are missing: model-00002-of-00003.safetensors" in problem


def test_index_unlike_shards_is_rejected(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]

    def swap(names: dict[str, str]) -> None:
        files.sort(key=lambda file: file != names[NORM])
        names[NORM] = files[1]

    edit_index(folder, swap)
    (problem,) = conversion_problems(folder)
    assert problem.endswith(f"{NORM!r}: the index lists {files[1]}, stored in {files[0]}")


def test_index_entry_without_tensor_is_rejected(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    edit_index(folder, lambda names: names.update(ghost="model-00001-of-00002.safetensors"))
    (problem,) = conversion_problems(folder)
    assert "'ghost': the index lists model-00001-of-00002.safetensors, stored in no file" in problem


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/x.safetensors", "model.bin", ""])
def test_index_outside_folder_is_rejected(tmp_path: Path, name: str) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    edit_index(folder, lambda names: names.update({NORM: name}))
    (problem,) = conversion_problems(folder)
    assert f"{name!r} is not a safetensors file in this folder" in problem


@pytest.mark.parametrize("text", ["[]", "{", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_invalid_index_is_rejected(tmp_path: Path, text: str) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    (folder / INDEX).write_text(text)
    (problem,) = conversion_problems(folder)
    assert INDEX in problem


def test_tensor_in_two_files_is_rejected(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    second = folder / "model-00002-of-00002.safetensors"
    values = load_file(second)
    first = load_file(folder / "model-00001-of-00002.safetensors")
    name = next(iter(first))
    save_file({**values, name: first[name]}, second)
    problems = conversion_problems(folder)
    assert any(f"{name!r} is in two files" in problem for problem in problems)


def test_missing_config_is_rejected(source: Path) -> None:
    (source / "config.json").unlink()
    (problem,) = conversion_problems(source)
    assert "config.json: no such file" in problem
