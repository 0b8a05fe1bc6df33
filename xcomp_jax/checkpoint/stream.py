"""Writing arrays of an Orbax pytree a few rows at a time.

Orbax's own handlers hold a second copy of what they write. Rows that are produced while they are
written need no first copy either: a checkpoint of any size is converted in the memory of a few
rows. The files are those of Orbax (one Zarr array each), and Orbax reads them like any others.
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

# A chunk is a file. Reading any part of it reads all of it: small enough for slices of a mesh,
# large enough for a few hundred files in a checkpoint.
_CHUNK_BYTES = 16 << 20
# Pieces of rows (`row_pieces`) being written at a time.
_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """An array that exists only row by row: `read(rows)` gives `array[rows]` of its first axis."""

    shape: Shape
    dtype: np.dtype
    read: Callable[[slice], np.ndarray]


class StreamHandler(ocp.type_handlers.NumpyHandler):
    """Writes LazyArray leaves; for Orbax they are numpy arrays.

    Attributes:
        digests: sha256 of the bytes of every array written, by Orbax's name of it.
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
        """Writes everything before it returns, so there is nothing left to wait for."""
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
            # Weights hardly compress, but every chunk carries a checksum that each read verifies.
            "metadata": {"chunk_grid": grid, "codecs": [plain, {"name": "crc32c"}]},
            # Chunks of zeros too, or a missing file could not be told from one.
            "store_data_equal_to_fill_value": True,
        },
        dtype=array.dtype,
        shape=array.shape,
        create=True,
    ).result()
    sha256 = hashlib.sha256()
    writing: deque[ts.WriteFutures] = deque()
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    for rows in row_pieces(0, array.shape[0], row_bytes=row_bytes, chunk_rows=chunk[0]):
        values = np.ascontiguousarray(array.read(rows))
        sha256.update(values.reshape(-1).view(np.uint8).data)
        if len(writing) == _IN_FLIGHT:
            writing.popleft().result()
        writing.append(store[rows].write(values, can_reference_source_data_indefinitely=True))
    for future in writing:
        future.result()
    return sha256.hexdigest()


def chunk_shape(shape: Shape, dtype: np.dtype) -> Shape:
    """The largest chunk up to _CHUNK_BYTES that is cut along the first axes only.

    Whole rows of the first axis, or parts of one row: an array in C order is a row of chunks.
    """
    chunk = list(shape)
    for axis, size in enumerate(shape):
        one = math.prod(shape[axis + 1 :]) * dtype.itemsize
        chunk[axis] = min(size, max(1, _CHUNK_BYTES // one))
        if chunk[axis] > 1 or one <= _CHUNK_BYTES:
            break
    return tuple(chunk)
