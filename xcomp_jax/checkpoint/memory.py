"""Host memory: what JAX adopts without a copy, and rows in pieces of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_ALIGNMENT = 64
_PIECE_BYTES = 16 << 20


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uninitialised array whose first byte lies on a multiple of 64.

    JAX's CPU backend adopts such memory; anything else it copies.
    """
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def row_pieces(first: int, last: int, *, row_bytes: int, chunk_rows: int) -> Iterator[slice]:
    """Cuts rows [first, last) into pieces of about 16 MB that end where chunks end.

    A stored chunk is read or written as a whole, so a piece that ended within one would touch it
    twice.
    """
    step = max(1, _PIECE_BYTES // max(1, row_bytes * chunk_rows)) * chunk_rows
    start = first
    while start < last:
        stop = min(last, (start // step + 1) * step)
        yield slice(start, stop)
        start = stop
