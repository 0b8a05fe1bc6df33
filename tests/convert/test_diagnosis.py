"""One sentence about a checkpoint of another kind comes before, or instead of, a list."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.convert import torch_model
from tests.convert.conftest import conversion_problems
from xcomp_jax.checkpoint import CheckpointError, save_params
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.folder import read_weights
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint

WEIGHTS = "model.safetensors"


def rename(folder: Path, change: Callable[[str], str]) -> None:
    values = {change(name): array for name, array in torch_model.read_tensors(folder).items()}
    save_file(values, folder / WEIGHTS, metadata={"format": "pt"})


def rejection(source: Path) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        convert_from_torch(str(source), source.parent / "out")
    assert len(str(caught.value).splitlines()) <= 12
    return caught.value


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"module.module._orig_mod.{name}",
        lambda name: name.replace("model.vision_tower.", "model._orig_mod.vision_tower."),
    ],
)
def test_wrapper_of_names_is_removed(source: Path, change: Callable[[str], str]) -> None:
    plain = read_weights(source)
    rename(source, change)
    wrapped = read_weights(source)
    assert wrapped.keys() == plain.keys()
    for name in plain:
        np.testing.assert_array_equal(wrapped[name].values, plain[name].values)


def test_wrapped_shards_match_their_index(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=2)
    index = json.loads((folder / f"{WEIGHTS}.index.json").read_text())
    for path in folder.glob("*.safetensors"):
        save_file({f"module.{name}": value for name, value in load_file(path).items()}, path)
    weight_map = {f"module.{name}": file for name, file in index["weight_map"].items()}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    load_torch_checkpoint(folder)


def test_wrapper_of_some_names_is_kept(source: Path) -> None:
    rename(source, lambda name: "module." * (name == torch_model.NORM) + name)
    assert f"module.{torch_model.NORM}" in read_weights(source)
    values = torch_model.read_tensors(source)
    values[f"_orig_mod.{torch_model.Q_PROJ}"] = values[torch_model.Q_PROJ] + 1
    save_file(values, source / WEIGHTS)
    assert f"_orig_mod.{torch_model.Q_PROJ}" in read_weights(source)


def test_inv_freq_buffers_are_ignored(source: Path) -> None:
    names = [f"model.layers.{n}.self_attn.rotary_emb.inv_freq" for n in range(3)]
    torch_model.rewrite(source, **{name: np.ones(2, np.float32) for name in names})
    load_torch_checkpoint(source)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda name: f"base_model.model.{name}", "adapter, not of a model; merge it into its"),
        (
            lambda name: name.replace("model.", "model.language_model.", 1),
            "tensor names begin with 'model.language_model.' instead of 'model.'",
        ),
        (lambda name: name.removeprefix("model."), "tensor names begin with '' instead of 'model."),
        (
            lambda name: name.replace("vision_tower", "visual"),
            r"found 38 of 38 of the language model, 0 of \d+ of the vision encoder, 4 of 4",
        ),
        (lambda name: f"other.{name[-40:]}x", "found 0 of 38 of the language model"),
    ],
)
def test_renamed_tensors_are_diagnosed_first(
    source: Path, change: Callable[[str], str], sentence: str
) -> None:
    rename(source, change)
    error = rejection(source)
    first, *listed, last = str(error).splitlines()
    assert re.search(sentence, first)
    assert f"({len(error.problems)} problems)" in first
    assert len(listed) == 10
    assert last == f"  and {len(error.problems) - 10} more"


def test_other_sizes_are_diagnosed_first(source: Path) -> None:
    torch_model.configure(source, hidden_size=16)
    assert "config.json and weights belong to different models" in rejection(source).diagnosis
    torch_model.configure(source, hidden_size=8, num_hidden_layers=5)
    assert "the weights have 3 decoder layers, config.json has num_hidden_layers=5" in str(
        rejection(source)
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>Log in</body></html>", "is an HTML page"),
        (b"\n<html></html>", "is an HTML page"),
        (b"GGUF\x03\0\0\0" + b"x" * 99, "is a GGUF file"),
        (b"PK\x03\x04" + b"x" * 99, "is a PyTorch pickle"),
        (b"\0" * 4096, "begins with zeros only"),
    ],
)
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_foreign_file_is_named(source: Path, name: str, content: bytes, sentence: str) -> None:
    (source / name).write_bytes(content)
    (problem,) = conversion_problems(source)
    assert name in problem
    assert sentence in problem


def test_header_that_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    """Control: a header of 640 bytes begins with the bytes of a pickle of protocol 2."""
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(640)
    (tmp_path / WEIGHTS).write_bytes((640).to_bytes(8, "little") + text.encode() + b"\0" * 4)
    assert (tmp_path / WEIGHTS).read_bytes()[:2] == b"\x80\x02"
    assert read_weights(tmp_path)["w"].shape == (1,)


def without_weights(source: Path, *names: str) -> str:
    (source / WEIGHTS).unlink()
    for name in names:
        (source / name).write_text("{}")
    (problem,) = conversion_problems(source)
    return problem


def test_adapter_folder_is_named(source: Path) -> None:
    problem = without_weights(source, "adapter_config.json", "adapter_model.safetensors")
    assert "holds the weights of an adapter" in problem
    assert "merge_and_unload()" in problem


def test_adapter_folder_without_config_is_named(source: Path) -> None:
    (source / "config.json").unlink()
    (source / WEIGHTS).unlink()
    (source / "adapter_config.json").write_text("{}")
    assert any("holds the weights of an adapter" in text for text in conversion_problems(source))


def test_gguf_folder_is_named(source: Path) -> None:
    assert "contains GGUF files (q4.gguf)" in without_weights(source, "q4.gguf")


def test_shards_without_index_are_named(source: Path) -> None:
    names = [f"model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    assert "has 2 shards such as model-00001-of-00002.safetensors, but no" in without_weights(
        source, *names
    )


def test_weights_of_other_name_are_named(source: Path) -> None:
    problem = without_weights(source, "weights.safetensors")
    assert "if weights.safetensors holds all weights, rename it to model.safetensors" in problem


def test_index_without_shards_is_named(tmp_path: Path) -> None:
    folder = torch_model.make(tmp_path / "m", shards=12)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (problem,) = conversion_problems(folder)
    assert "12 of its 12 shards are missing: model-00001-of-00012.safetensors, " in problem
    assert problem.endswith("and 2 more; copy or download them")


def hub_cache(tmp_path: Path, source: Path) -> tuple[Path, Path]:
    """Copies `source` into the layout of the hub cache; returns its entry and snapshot."""
    entry = tmp_path / "cache" / "models--owner--name"
    snapshot = entry / "snapshots" / ("0123" * 10)
    for folder in (snapshot, entry / "blobs", entry / "refs"):
        folder.mkdir(parents=True)
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.copy(path, entry / "blobs" / f"{number:040x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    (entry / "refs" / "main").write_text("0123" * 10)
    return entry, snapshot


def test_hub_cache_names_its_snapshot(source: Path, tmp_path: Path) -> None:
    entry, snapshot = hub_cache(tmp_path, source)
    for folder in (entry, entry.parent):
        (problem,) = conversion_problems(folder)
        assert problem.endswith(f"use a snapshot in it: {snapshot}")
    load_torch_checkpoint(snapshot)


def test_dangling_links_are_named(source: Path, tmp_path: Path) -> None:
    entry, snapshot = hub_cache(tmp_path, source)
    shutil.rmtree(entry / "blobs")
    (problem,) = conversion_problems(snapshot)
    assert "has links to files that do not exist: LICENSE, config.json" in problem
    assert "cp -rL" in problem


def test_outer_folder_names_the_inner(source: Path) -> None:
    (problem,) = conversion_problems(source.parent)
    assert problem == f"has no config.json; use the folder that has it: {source}"


def test_workdir_names_its_checkpoint(source: Path) -> None:
    (source / "config.json").write_text('{"stages": []}')
    (source / "checkpoint").mkdir()
    (problem,) = conversion_problems(source)
    assert problem == f"is the workdir of a run; use {source / 'checkpoint'}"


def test_converted_folder_without_params_is_named(source: Path) -> None:
    convert_from_torch(str(source), source.parent / "out")
    shutil.rmtree(source.parent / "out" / "params")
    with pytest.raises(ConversionError, match="XComp-JAX checkpoint without its folder params"):
        convert_from_torch(str(source.parent / "out"), source.parent / "again")


def test_save_params_swapped_arguments_are_named(source: Path, tmp_path: Path) -> None:
    model, params = load_torch_checkpoint(source)
    with pytest.raises(CheckpointError, match="config is of type dict and params of type ModelC"):
        save_params(tmp_path / "x", params, model)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["source"]
