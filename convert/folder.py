"""Checkpoint folders in PyTorch layout or of XComp-JAX, opened through one interface.

The PyTorch layout is config.json with model.safetensors, or shards with an index. Both classes
have `kind`, `model`, `shapes` and `dtypes` by PyTorch name (in the order that reads fastest) and
`read(name)`, which returns the values with the PyTorch tensor's axes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.checkpoint import CheckpointError, CheckpointReader
from xcomp_jax.checkpoint.lists import short_list
from xcomp_jax.checkpoint.read import FORMAT, PARAMS_FOLDER
from xcomp_jax.checkpoint.strict_json import read_json_object
from xcomp_jax.convert.config import to_model_config
from xcomp_jax.convert.diagnose_folder import (
    check_folder,
    file_head,
    foreign_content,
    missing_weights,
)
from xcomp_jax.convert.diagnose_tensors import plain_names
from xcomp_jax.convert.errors import ConversionError, raise_problems
from xcomp_jax.convert.map import rules_for, tensor_slots
from xcomp_jax.convert.read import read_safetensors
from xcomp_jax.convert.rules import TIED_COPY
from xcomp_jax.convert.tensors import Tensor, equal_bits

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class TorchCheckpoint:
    """A folder in PyTorch layout. A stored copy of a tied head is ignored if it is equal."""

    kind = "safetensors"

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self.model = to_model_config(read_config(folder))
        tensors = read_weights(folder)
        copy, original = (tensors.get(name) for name in TIED_COPY)
        if self.model.llm.tie_word_embeddings and copy is not None and original is not None:
            comparable = copy.values is not None and original.values is not None
            if comparable and equal_bits(copy.values, original.values):  # type: ignore[arg-type]
                del tensors[copy.name]
        self._tensors = tensors
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}

    def read(self, name: str) -> np.ndarray:
        values = self._tensors[name].values
        if values is None:
            raise ConversionError(name, [f"dtype {self.dtypes[name]} cannot be compared"])
        return values


class JaxCheckpoint:
    """An XComp-JAX checkpoint, read block by block.

    A parameter whose tensors are read in the order of `shapes` is also checked against its saved
    sha256, which detects files that were exchanged as a whole.
    """

    kind = FORMAT

    def __init__(self, reader: CheckpointReader) -> None:
        self._reader = reader
        self.model = reader.model
        self._slots = tensor_slots(rules_for(self.model), reader.shapes)
        self.shapes = {name: slot.shape for name, slot in self._slots.items()}
        self.dtypes = {
            name: reader.dtypes[slot.rule.target].name for name, slot in self._slots.items()
        }
        self._hash_position: tuple[str, int] = ("", 0)
        self._sha256 = hashlib.sha256()

    def read(self, name: str) -> np.ndarray:
        slot = self._slots[name]
        path = slot.rule.target
        index = [slice(0, size) for size in self._reader.shapes[path]]
        if slot.block is not None:
            index[0] = slice(slot.block, slot.block + 1)
        values = self._reader.part(path, tuple(index))
        self._update_sha256(path, slot.block or 0, values)
        return slot.rule.layout.to_source(values if slot.block is None else values[0])

    def _update_sha256(self, path: str, block: int, values: np.ndarray) -> None:
        if block == 0:
            self._hash_position, self._sha256 = (path, 0), hashlib.sha256()
        if self._hash_position != (path, block):
            return
        self._sha256.update(values.reshape(-1).view(np.uint8).data)
        self._hash_position = (path, block + 1)
        saved = self._reader.sha256.get(path)
        is_last = block + len(values) == self._reader.shapes[path][0]
        if is_last and saved is not None and saved != self._sha256.hexdigest():
            raise CheckpointError(
                f"{self._reader.folder}: {path!r} was modified after saving: its sha256 is "
                f"{self._sha256.hexdigest()}, expected {saved}"
            )


OpenCheckpoint = TorchCheckpoint | JaxCheckpoint


def open_checkpoint(folder: Path) -> OpenCheckpoint:
    """Opens a checkpoint folder of either kind.

    Raises:
        ConversionError, CheckpointError: the folder is not a readable checkpoint.
    """
    if not folder.is_dir():
        raise ConversionError(str(folder), ["no such folder; a local checkpoint folder is needed"])
    if (folder / PARAMS_FOLDER).is_dir():
        return JaxCheckpoint(CheckpointReader(folder))
    return TorchCheckpoint(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """Reads config.json of a folder in PyTorch layout; raises ConversionError if it is invalid."""
    return _read_object(folder / CONFIG)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except ValueError as error:
        problem = (path.is_file() and foreign_content(file_head(path))) or str(error)
        raise ConversionError(str(path), [problem]) from None


def weight_files(folder: Path) -> list[Path]:
    """Returns the safetensors files of the checkpoint in `folder`, sorted by name.

    Raises:
        ConversionError: there are none, only pickles, or files that contradict the index.
    """
    single, index = folder / WEIGHTS, folder / INDEX
    if single.is_file() and index.is_file():
        raise ConversionError(
            str(folder), [f"contains both {WEIGHTS} and {INDEX}; remove the one not in use"]
        )
    if single.is_file():
        return [single]
    if index.is_file():
        return [folder / name for name in sorted(set(_weight_map(index).values()))]
    raise ConversionError(str(folder), [missing_weights(folder, WEIGHTS, INDEX)])


def _weight_map(index: Path) -> dict[str, str]:
    """Maps tensor names to file names, each a plain name of an existing file beside the index."""
    weight_map = _read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConversionError(str(index), ["expected a non-empty object under 'weight_map'"])
    files = sorted(set(map(str, weight_map.values())))
    outside = [
        name for name in files if Path(name).name != name or not name.endswith(".safetensors")
    ]
    raise_problems(
        index, [f"{name!r} is not a safetensors file in this folder" for name in outside]
    )
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        problem = (
            f"{len(missing)} of its {len(files)} shards are missing: {short_list(missing)}; copy "
            "or download them"
        )
        raise ConversionError(str(index), [problem])
    return weight_map


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Reads every tensor of the checkpoint in `folder`, as views of its files, by plain name.

    Raises:
        ConversionError: see `weight_files`; also for a broken file, a tensor in two files, or a
            tensor in another file than the index states.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    for path in weight_files(folder):
        try:
            shard = read_safetensors(path)
        except ConversionError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems]
            continue
        problems += [
            f"{name!r} is in two files, {tensors[name].origin} and {path.name}"
            for name in shard.keys() & tensors.keys()
        ]
        tensors |= shard
    index = folder / INDEX
    if index.is_file() and not problems:
        weight_map = _weight_map(index)
        for name in sorted(weight_map.keys() | tensors.keys()):
            listed = weight_map.get(name)
            origin = tensors[name].origin if name in tensors else None
            if listed != origin:
                location = f"the index lists {listed or 'no file'}, stored in {origin or 'no file'}"
                problems.append(f"{name!r}: {location}")
    raise_problems(folder, problems)
    return plain_names(tensors)
