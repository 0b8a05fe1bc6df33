"""Host memory: arrays that JAX adopts without a copy, and rows in pieces of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_ALIGNMENT = 64
_PIECE_BYTES = 16 << 20


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocates an uninitialised array, aligned to 64 bytes so that JAX on CPU does not copy it."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def row_pieces(first: int, last: int, *, row_bytes: int, chunk_rows: int) -> Iterator[slice]:
    """Yields rows [first, last) in slices of about 16 MB that end at chunk boundaries.

    A chunk is read or written as a whole; a slice that ended inside one would touch it twice.
    """
    step = max(1, _PIECE_BYTES // max(1, row_bytes * chunk_rows)) * chunk_rows
    start = first
    while start < last:
        stop = min(last, (start // step + 1) * step)
        yield slice(start, stop)
        start = stop
