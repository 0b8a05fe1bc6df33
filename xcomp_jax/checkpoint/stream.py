"""Writes the arrays of an Orbax pytree a few rows at a time.

Orbax's own handlers hold a second copy of the arrays they write. Here rows can be computed while
they are written, so a checkpoint of any size is converted in the memory of a few rows. The files
have Orbax's format (one Zarr array each), and Orbax reads them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from xcomp_jax.checkpoint.memory import row_pieces

Shape = tuple[int, ...]

# A chunk is a file, and reading any part of it reads all of it. This size is small enough for
# slices of a mesh and gives a few hundred files per checkpoint.
_CHUNK_BYTES = 16 << 20
# Number of row slices (`row_pieces`) written at a time.
_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """An array that is computed row by row: `read(rows)` returns `array[rows]`."""

    shape: Shape
    dtype: np.dtype
    read: Callable[[slice], np.ndarray]


class StreamHandler(ocp.type_handlers.NumpyHandler):
    """Writes LazyArray leaves, which Orbax treats as NumPy arrays.

    Attributes:
        digests: sha256 of every written array, by its name in Orbax.
    """

    def __init__(self) -> None:
        super().__init__()
        self.digests: dict[str, str] = {}

    async def serialize(
        self,
        values: Sequence[LazyArray],
        infos: Sequence[ocp.type_handlers.ParamInfo],
        args: Sequence[ocp.SaveArgs] | None = None,
    ) -> Sequence[Any]:
        """Writes all values before returning, hence returns no futures."""
        del args
        for value, info in zip(values, infos, strict=True):
            await info.await_path_creation()
            if jax.process_index() == 0:
                self.digests[info.name] = _write(value, f"{info.path}/")
        return []


def _write(array: LazyArray, path: str) -> str:
    chunk = chunk_shape(array.shape, array.dtype)
    grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
    plain = {"name": "bytes", "configuration": {"endian": "little"}}
    store = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": path},
            # No compression, which gains little on weights; a checksum that each read verifies.
            "metadata": {"chunk_grid": grid, "codecs": [plain, {"name": "crc32c"}]},
            # Otherwise a missing file would be read as a chunk of zeros.
            "store_data_equal_to_fill_value": True,
        },
        dtype=array.dtype,
        shape=array.shape,
        create=True,
    ).result()
    sha256 = hashlib.sha256()
    pending: deque[ts.WriteFutures] = deque()
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    for rows in row_pieces(0, array.shape[0], row_bytes=row_bytes, chunk_rows=chunk[0]):
        values = np.ascontiguousarray(array.read(rows))
        sha256.update(values.reshape(-1).view(np.uint8).data)
        if len(pending) == _IN_FLIGHT:
            pending.popleft().result()
        pending.append(store[rows].write(values, can_reference_source_data_indefinitely=True))
    for future in pending:
        future.result()
    return sha256.hexdigest()


def chunk_shape(shape: Shape, dtype: np.dtype) -> Shape:
    """Returns the largest chunk up to _CHUNK_BYTES that splits only the leading axes.

    A chunk consists of whole rows of the first axis, or of part of one row, so it is contiguous in
    C order.
    """
    chunk = list(shape)
    for axis, size in enumerate(shape):
        row_bytes = math.prod(shape[axis + 1 :]) * dtype.itemsize
        chunk[axis] = min(size, max(1, _CHUNK_BYTES // row_bytes))
        if chunk[axis] > 1 or row_bytes <= _CHUNK_BYTES:
            break
    return tuple(chunk)
