"""Reads a checkpoint, as a whole or in parts.

Arrays are read with TensorStore, the library beneath Orbax: each process reads only the slices it
needs, into memory that JAX adopts without a copy, and errors name the damaged file.
"""

from __future__ import annotations

import functools
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore as ts
from flax import traverse_util
from jax.typing import DTypeLike

from xcomp_jax.checkpoint.checksums import DESCRIPTION, check_files
from xcomp_jax.checkpoint.lists import short_list
from xcomp_jax.checkpoint.memory import aligned_empty, row_pieces
from xcomp_jax.checkpoint.strict_json import read_json_object
from xcomp_jax.checkpoint.tree import CheckpointError, Shape, check_shapes
from xcomp_jax.config import ConfigError, ModelConfig, from_dict
from xcomp_jax.models.quantized import Quantization, quantized_shapes, read_quantized

FORMAT = "xcomp_jax"
VERSION = 1
CONFIG_FILE = "config.json"
PARAMS_FOLDER = "params"

# Number of row slices (`row_pieces`) read at a time.
_IN_FLIGHT = 2

# TensorStore has no error type of its own.
_READ_ERRORS = (ValueError, OSError, NotImplementedError, IndexError, TypeError, RuntimeError)

Index = tuple[slice, ...]


class CheckpointReader:
    """Reads the arrays of a checkpoint in parts, as NumPy arrays on any host.

    Attributes:
        folder: path of the checkpoint.
        model: configuration of the model.
        source: provenance of the parameters, as saved.
        shapes, dtypes: shape and dtype of every array, by path.
        sha256: hash of every array that a single process saved, by path.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Reads configuration and shapes, but no values; raises CheckpointError (`load_params`)."""
        self.folder = Path(folder)
        config = _read_config(self.folder)
        self.model = _model(self.folder, config)
        self.source: dict[str, Any] = config["source"]
        self.sha256: dict[str, str] = config["sha256"]
        self._params = (self.folder / PARAMS_FOLDER).resolve()
        # Files of each array, removed once they are checked.
        self._unchecked: dict[str, dict[str, str]] = {}
        for file, checksum in config["files"].items():
            self._unchecked.setdefault(_path(file.partition("/")[0]), {})[file] = checksum
        self.shapes, self.dtypes = self._describe()
        check_shapes(self.folder, self.model, self.shapes)

    def part(self, path: str, index: Index, dtype: DTypeLike | None = None) -> np.ndarray:
        """Reads one array at `index`, cast to `dtype`.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        bounds = [s.indices(n)[:2] for s, n in zip(index, self.shapes[path], strict=True)]
        rows, *rest = (slice(start, stop) for start, stop in bounds)
        shape = tuple(stop - start for start, stop in bounds)
        self._check(path)
        out = aligned_empty(shape, np.dtype(dtype or self.dtypes[path]))
        try:
            store = _open(self._params, path).result()
            for piece, values in _read_rows(store, rows, tuple(rest)):
                np.copyto(out[piece], values, casting="unsafe")
        except _READ_ERRORS as error:
            raise CheckpointError(
                f"{self.folder}: {path!r} cannot be read: {_reason(error)}"
            ) from error
        return out

    def _check(self, path: str) -> None:
        try:
            check_files(self._params, self._unchecked.get(path, {}))
        except CheckpointError as error:
            raise CheckpointError(f"{self.folder}: {path!r} cannot be read: {error}") from error
        self._unchecked.pop(path, None)

    def _describe(self) -> tuple[dict[str, Shape], dict[str, np.dtype]]:
        """Reads shape and dtype of every array, by path."""
        descriptions = sorted(self._params.glob(f"*/{DESCRIPTION}"))
        paths = [_path(description.parent.name) for description in descriptions]
        for path in paths:
            listed = self._unchecked.get(path, {})
            check_files(self._params, {f: c for f, c in listed.items() if f.endswith(DESCRIPTION)})
        shapes: dict[str, Shape] = {}
        dtypes: dict[str, np.dtype] = {}
        opened = [(path, _open(self._params, path)) for path in paths]
        for path, future in opened:
            try:
                store = future.result()
                dtypes[path] = np.dtype(store.dtype.numpy_dtype)
            except _READ_ERRORS as error:
                raise CheckpointError(
                    f"{self.folder}: {path!r} cannot be read: {_reason(error)}"
                ) from error
            shapes[path] = tuple(store.shape)
        return shapes, dtypes


def load_params(
    folder: str | os.PathLike[str],
    *,
    dtype: DTypeLike | None = None,
    shardings: Any = None,
    quantization: Quantization | None = None,
) -> tuple[ModelConfig, dict[str, Any]]:
    """Loads a checkpoint's configuration and parameters.

    Args:
        folder: folder written by `save_params`.
        dtype: dtype of the returned arrays (default: as saved).
        shardings: tree like the parameters with a jax.sharding.Sharding per array, or one Sharding
            for all; each process reads only its own parts (default: the first device).
        quantization: "int8" quantises the language model's matrices while they are read, one layer
            at a time (`models.quantized`).

    Returns:
        The model's configuration and the nested tree of jax.Arrays.

    Raises:
        CheckpointError: the folder does not exist, is not a checkpoint or has another version;
            files are damaged; or names or shapes of arrays do not match the configuration.
    """
    reader = CheckpointReader(folder)
    if shardings is None:
        shardings = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes: dict[str, Shape] = {}
    for path, shape in reader.shapes.items():
        shapes |= quantized_shapes(path, shape) if quantization else {path: shape}
    if isinstance(shardings, jax.sharding.Sharding):
        by_path = dict.fromkeys(shapes, shardings)
    else:
        by_path = traverse_util.flatten_dict(shardings, sep="/")
    if by_path.keys() != shapes.keys():
        raise CheckpointError(
            f"{folder}: shardings and parameters have different trees; only in one of them: "
            f"{sorted(by_path.keys() ^ shapes.keys())}"
        )
    flat: dict[str, Any] = {}
    for path, shape in reader.shapes.items():
        part = functools.partial(reader.part, path, dtype=dtype)
        if quantization and len(quantized_shapes(path, shape)) > 1:
            for name, values in read_quantized(path, shape, part).items():
                flat[name] = jax.make_array_from_callback(
                    values.shape, by_path[name], values.__getitem__
                )
        else:
            flat[path] = jax.make_array_from_callback(shape, by_path[path], part)
    return reader.model, traverse_util.unflatten_dict(flat, sep="/")


def _path(folder: str) -> str:
    """Returns the path of the array in `folder`, see `_open`."""
    return folder.replace(".", "/")


def _open(params: Path, path: str) -> ts.Future:
    # Orbax names an array's folder by its keys joined with dots.
    kvstore = {"driver": "file", "path": f"{params}/{path.replace('/', '.')}/"}
    spec = {"driver": "zarr3", "kvstore": kvstore, "fill_missing_data_reads": False}
    return ts.open(spec, read=True, open=True)


def _read_rows(
    store: ts.TensorStore, rows: slice, rest: Index
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields `store[rows, *rest]` in pieces with their offset from `rows`, reading ahead."""
    row_bytes = store.size // store.shape[0] * store.dtype.numpy_dtype.itemsize
    chunk_rows = store.chunk_layout.read_chunk_template.shape[0]
    pending: deque[tuple[slice, ts.Future]] = deque()
    for piece in row_pieces(rows.start, rows.stop, row_bytes=row_bytes, chunk_rows=chunk_rows):
        local = slice(piece.start - rows.start, piece.stop - rows.start)
        pending.append((local, store[(piece, *rest)].read()))
        if len(pending) == _IN_FLIGHT:
            oldest, future = pending.popleft()
            yield oldest, future.result()
    for oldest, future in pending:
        yield oldest, future.result()


def _reason(error: Exception) -> str:
    """Returns the message of TensorStore without its source locations and specifications."""
    return " ".join(re.split(r" \[(?:source locations|tensorstore_spec)", str(error))[0].split())


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / PARAMS_FOLDER).is_dir():
        names = sorted(entry.name for entry in folder.iterdir())
        raise CheckpointError(
            f"{folder}: not a checkpoint, it needs {CONFIG_FILE} and {PARAMS_FOLDER}/; found "
            f"{short_list(names) or 'no files'}. Convert a folder with safetensors by "
            "`xcomp convert from-torch`"
        )
    try:
        values = read_json_object(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if values.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a JSON object with format={FORMAT!r}")
    if values.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version {values.get('version')!r}, this code reads version {VERSION}"
        )
    for key in ("source", "sha256", "files"):
        if not isinstance(values.setdefault(key, {}), dict):
            raise CheckpointError(f"{path}: {key} is not a JSON object, the file is damaged")
    return values


def _model(folder: Path, config: dict[str, Any]) -> ModelConfig:
    try:
        return from_dict(ModelConfig, config.get("model"), "model")
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
