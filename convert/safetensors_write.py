"""Writing safetensors: the header first, then every tensor once, a few rows at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from xcomp_jax.convert.dtypes import FLOATS, count_non_finite
from xcomp_jax.convert.layouts import Shape

_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_CHUNK_BYTES = 32 << 20


@dataclasses.dataclass(frozen=True)
class Declared:
    """A tensor that will be written."""

    name: str
    dtype: str
    shape: Shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * FLOATS[self.dtype].itemsize


class SafetensorsWriter:
    """One file; `write` takes the declared tensors in their order.

    with SafetensorsWriter(path, declared) as writer:
        for tensor in declared:
            writer.write(tensor.name, values[tensor.name])
    writer.description    # name, bytes, sha256
    """

    def __init__(self, path: Path, declared: list[Declared]) -> None:
        self._path, self._waiting = path, list(declared)
        self._header = _header(declared)
        self._sha256, self._bytes = hashlib.sha256(), 0
        self._file: BinaryIO

    def __enter__(self) -> SafetensorsWriter:
        self._file = self._path.open("xb")
        self._put(self._header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        assert kind is not None or not self._waiting, f"not written: {self._waiting}"

    def write(self, name: str, values: np.ndarray) -> bool:
        """Appends the values, cast to the declared dtype; any strides will do.

        Returns:
            Whether all written values are finite.
        """
        tensor = self._waiting.pop(0)
        assert (name, values.shape) == (tensor.name, tensor.shape), (name, values.shape, tensor)
        dtype, finite = FLOATS[tensor.dtype], True
        for rows in _row_chunks(values, dtype.itemsize):
            with np.errstate(over="ignore"):
                chunk = np.ascontiguousarray(rows, dtype)
            finite = finite and count_non_finite(chunk) == 0
            self._put(chunk.reshape(-1).view(np.uint8).data)
        return finite

    def _put(self, data: bytes | memoryview) -> None:
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


def _header(declared: list[Declared]) -> bytes:
    # transformers refuses a file that does not name the framework it was written for.
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in declared:
        end = position + tensor.nbytes
        fields[tensor.name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
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
