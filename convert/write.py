"""Writing of safetensors files, shards and the other files of a checkpoint folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from xcomp_jax.checkpoint.strict_json import format_json
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.folder import WEIGHTS
from xcomp_jax.convert.tensors import FLOATS, Shape, count_non_finite
from xcomp_jax.text.tokenizer import TOKENIZER_FILES

COMPANIONS = (*TOKENIZER_FILES, "generation_config.json", "LICENSE", "NOTICE")
"""Files copied in both directions if present. Code files are never copied."""

# Required, besides the weights, to answer questions with a checkpoint.
_TOKENIZER_PARTS = ("vocab.json", "merges.txt")
_REQUIRED_COMPANIONS = (
    *_TOKENIZER_PARTS,
    "tokenizer_config.json",
    "generation_config.json",
)

_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_CHUNK_BYTES = 32 << 20
_HASH_BLOCK = 8 << 20
# Headers, metadata and file-system blocks.
_DISK_OVERHEAD = 16 << 20


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of a tensor to write."""

    name: str
    dtype: str
    shape: Shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * FLOATS[self.dtype].itemsize


class SafetensorsWriter:
    """Writes one file: the header first, then each tensor once, a few rows at a time.

    with SafetensorsWriter(path, specs) as writer:
        for spec in specs:
            writer.write(spec.name, values[spec.name])
    writer.description    # name, bytes, sha256
    """

    def __init__(self, path: Path, specs: Sequence[TensorSpec]) -> None:
        self._path, self._remaining = path, list(specs)
        self._header = _header(specs)
        self._sha256, self._bytes = hashlib.sha256(), 0
        self._file: BinaryIO

    def __enter__(self) -> SafetensorsWriter:
        self._file = self._path.open("xb")
        self._append(self._header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        assert kind is not None or not self._remaining, f"not written: {self._remaining}"

    def write(self, name: str, values: np.ndarray) -> bool:
        """Appends the values, cast to the dtype of the spec; accepts any strides.

        Returns:
            True if all written values are finite.
        """
        spec = self._remaining.pop(0)
        assert (name, values.shape) == (spec.name, spec.shape), (name, values.shape, spec)
        dtype, finite = FLOATS[spec.dtype], True
        for rows in _row_chunks(values, dtype.itemsize):
            with np.errstate(over="ignore"):
                chunk = np.ascontiguousarray(rows, dtype)
            finite = finite and count_non_finite(chunk) == 0
            self._append(chunk.reshape(-1).view(np.uint8).data)
        return finite

    def _append(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._bytes += len(data)

    @property
    def description(self) -> dict[str, Any]:
        return {
            "name": self._path.name,
            "bytes": self._bytes,
            "sha256": self._sha256.hexdigest(),
        }


def _header(specs: Sequence[TensorSpec]) -> bytes:
    # transformers rejects a file without the name of a framework.
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for spec in specs:
        end = position + spec.nbytes
        fields[spec.name] = {
            "dtype": _CODES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _row_chunks(values: np.ndarray, itemsize: int) -> Iterator[np.ndarray]:
    if values.ndim == 0:
        yield values
        return
    row_bytes = max(1, values.size // max(1, len(values)) * itemsize)
    step = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, len(values), step):
        yield values[start : start + step]


def plan_shards(specs: Sequence[TensorSpec], max_bytes: int) -> dict[str, list[TensorSpec]]:
    """Splits tensors into files, in order; a file exceeds `max_bytes` only for a single tensor."""
    parts: list[list[TensorSpec]] = [[]]
    for spec in specs:
        size = sum(other.nbytes for other in parts[-1])
        if parts[-1] and size + spec.nbytes > max_bytes:
            parts.append([])
        parts[-1].append(spec)
    if len(parts) == 1:
        return {WEIGHTS: parts[0]}
    return {
        f"model-{i:05d}-of-{len(parts):05d}.safetensors": part for i, part in enumerate(parts, 1)
    }


def shard_index(shards: Mapping[str, Sequence[TensorSpec]]) -> dict[str, Any]:
    """Returns the content of model.safetensors.index.json."""
    total = sum(spec.nbytes for part in shards.values() for spec in part)
    weight_map = {spec.name: name for name, part in shards.items() for spec in part}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def write_json(path: Path, value: Any) -> None:
    path.write_text(format_json(value), encoding="utf-8")


def companions(folder: Path) -> list[Path]:
    """Lists the tokenizer, generation and licence files in `folder`."""
    return [folder / name for name in COMPANIONS if (folder / name).is_file()]


def missing_companions(folder: Path) -> str:
    """Returns the line of a summary that names missing files, or "" if none is missing."""
    missing = [name for name in _REQUIRED_COMPANIONS if not (folder / name).is_file()]
    has_tokenizer = (folder / "tokenizer.json").is_file()
    if has_tokenizer:  # replaces both
        missing = [name for name in missing if name not in _TOKENIZER_PARTS]
    if not missing:
        return ""
    line = f"\nmissing in {folder}: {', '.join(missing)}"
    if has_tokenizer or not set(_TOKENIZER_PARTS) & set(missing):
        return line
    return line + "; asking questions needs the tokenizer files"


def describe_file(path: Path) -> dict[str, Any]:
    """Returns name, size and sha256 of a file."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            sha256.update(block)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256.hexdigest()}


def check_disk(out: Path, parameter_bytes: int) -> None:
    """Raises ConversionError if the disk of `out` has no room for `parameter_bytes`."""
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    required, free = parameter_bytes + _DISK_OVERHEAD, shutil.disk_usage(folder).free
    if required > free:
        problem = f"not enough disk space in {folder}: {required} bytes required, {free} free"
        raise ConversionError(str(out), [problem])
