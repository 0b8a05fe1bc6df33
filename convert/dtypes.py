"""The three floating-point types a checkpoint may hold, and their names in each place."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from xcomp_jax.config import DType

# Name (ours, and torch_dtype of the original) -> numpy type.
FLOATS: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# Bits of the exponent: all of them set means infinite or not a number.
_EXPONENT = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}

_CHUNK = 1 << 22


def float_dtype(name: str) -> np.dtype:
    """numpy type of a float name; ValueError with the known names otherwise."""
    if name not in FLOATS:
        raise ValueError(f"dtype {name!r} is not supported; known: {sorted(FLOATS)}")
    return FLOATS[name]


def compute_dtype(stored: str) -> DType:
    """What a model computes in when its parameters are stored as `stored`.

    Original: evaluated in float16. Here float16 parameters are computed in float32, which holds
    each of them exactly; bfloat16 would round them.
    """
    return "bfloat16" if stored == "bfloat16" else "float32"


def raw(array: np.ndarray) -> np.ndarray:
    """The bits of a float array as unsigned integers: a view, which numpy moves at memory speed."""
    return array.view(np.dtype(f"u{array.dtype.itemsize}"))


def count_non_finite(array: np.ndarray) -> int:
    """Number of infinite or NaN values, with a few MB of working memory."""
    mask, bits = _EXPONENT[array.dtype.name], raw(array)
    if not bits.flags.c_contiguous:
        return sum(count_non_finite(row) for row in array)
    flat = bits.reshape(-1)
    return sum(
        int(np.count_nonzero((flat[i : i + _CHUNK] & mask) == mask))
        for i in range(0, flat.size, _CHUNK)
    )
