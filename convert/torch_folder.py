"""A folder in the original's layout: config.json, one safetensors file or shards with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xcomp_jax.convert.errors import ConversionError, refuse
from xcomp_jax.convert.safetensors_read import Tensor, read_safetensors

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file whose top level is an object.

    Raises:
        ConversionError: the file is missing, not JSON, or holds something else.
    """
    if not path.is_file():
        raise ConversionError(str(path), ["no such file"])
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ConversionError(str(path), ["JSON nested too deeply"]) from None
    except ValueError as error:
        raise ConversionError(str(path), [f"not valid JSON: {error}"]) from None
    if not isinstance(value, dict):
        raise ConversionError(str(path), [f"JSON {type(value).__name__}, expected an object"])
    return value


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the checkpoint in `folder`, in the order of their names.

    Raises:
        ConversionError: there are none, only pickles, or files that contradict the index.
    """
    if not folder.is_dir():
        raise ConversionError(str(folder), ["no such folder"])
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file() and index.is_file():
        raise ConversionError(
            str(folder), [f"both {SINGLE} and {INDEX} are there: keep the one that is meant"]
        )
    if single.is_file():
        return [single]
    if index.is_file():
        return [folder / name for name in sorted(set(_weight_map(index).values()))]
    raise ConversionError(str(folder), [_nothing_to_read(folder)])


def _nothing_to_read(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        return (
            f"only pickled weights {pickles}: opening a pickle runs whatever code is in it, so "
            "they are never read; ask for the safetensors version of this checkpoint"
        )
    return f"neither {SINGLE} nor {INDEX}; found {names}"


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> file name, each a plain name of an existing file beside the index."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConversionError(str(index), ["expected a non-empty object under 'weight_map'"])
    files = sorted(set(map(str, weight_map.values())))
    outside = [
        name for name in files if Path(name).name != name or not name.endswith(".safetensors")
    ]
    refuse(index, [f"{name!r} is not the name of a safetensors file here" for name in outside])
    missing = [name for name in files if not (index.parent / name).is_file()]
    refuse(index, [f"shard {name!r} is missing" for name in missing])
    return weight_map


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the checkpoint in `folder`, as views of its files.

    Raises:
        ConversionError: see `weight_files`; a broken file; a tensor in two files, or in another
            file than the index says.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    for path in weight_files(folder):
        try:
            found = read_safetensors(path)
        except ConversionError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems]
            continue
        problems += [
            f"{name!r} is in two files, {tensors[name].origin} and {path.name}"
            for name in found.keys() & tensors.keys()
        ]
        tensors |= found
    index = folder / INDEX
    if index.is_file() and not problems:
        problems = _contradictions(_weight_map(index), tensors)
    refuse(folder, problems)
    return tensors


def _contradictions(weight_map: dict[str, str], tensors: dict[str, Tensor]) -> list[str]:
    problems = []
    for name in sorted(weight_map.keys() | tensors.keys()):
        said = weight_map.get(name)
        found = tensors[name].origin if name in tensors else None
        if said != found:
            problems.append(
                f"{name!r}: the index says {said or 'nothing'}, found in {found or 'none'}"
            )
    return problems
