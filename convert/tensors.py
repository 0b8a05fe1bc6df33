"""Tensors of a checkpoint: float types, non-finite values, and comparison of two tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from xcomp_jax.config import DType

Shape = tuple[int, ...]

FLOATS: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
"""Supported float types by name; the names are also the values of `torch_dtype`."""

# Bits of the exponent. A value is infinite or NaN when all of them are set.
_EXPONENT = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}

_FINITE_CHUNK = 1 << 22
_COMPARE_CHUNK = 1 << 21


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One named tensor of a PyTorch checkpoint.

    Attributes:
        values: None when `dtype` is not one of FLOATS.
        origin: file (or other source) of the tensor, for messages.
    """

    name: str
    dtype: str
    shape: Shape
    values: np.ndarray | None
    origin: str

    @classmethod
    def from_array(cls, name: str, array: np.ndarray, origin: str) -> Tensor:
        supported = array.dtype.name in FLOATS
        return cls(name, array.dtype.name, array.shape, array if supported else None, origin)


def float_dtype(name: str) -> np.dtype:
    """Returns the numpy type of a float name; raises ValueError for an unknown name."""
    if name not in FLOATS:
        raise ValueError(f"dtype {name!r} is not supported; use one of {sorted(FLOATS)}")
    return FLOATS[name]


def compute_dtype(stored: str) -> DType:
    """Returns the dtype a model computes in when its parameters are stored as `stored`.

    float16 parameters are computed in float32, which represents each of them exactly; bfloat16
    would round them. (The PyTorch evaluation runs in float16.)
    """
    return "bfloat16" if stored == "bfloat16" else "float32"


def bit_view(array: np.ndarray) -> np.ndarray:
    """Returns a view of a float array as unsigned integers, which numpy copies fastest."""
    return array.view(np.dtype(f"u{array.dtype.itemsize}"))


def equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Tests for equal shape, dtype and bits, row by row to keep the working memory small."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return all(np.array_equal(x, y) for x, y in zip(bit_view(a), bit_view(b), strict=True))


def count_non_finite(array: np.ndarray) -> int:
    """Counts infinite and NaN values with a few MB of working memory."""
    mask, bits = _EXPONENT[array.dtype.name], bit_view(array)
    if not bits.flags.c_contiguous:
        return sum(count_non_finite(row) for row in array)
    flat = bits.reshape(-1)
    return sum(
        int(np.count_nonzero((flat[i : i + _FINITE_CHUNK] & mask) == mask))
        for i in range(0, flat.size, _FINITE_CHUNK)
    )


def non_finite_problem(name: str, values: np.ndarray, dtype: str) -> str:
    """Describes a tensor with infinite or NaN values, either stored or caused by a cast."""
    if count := count_non_finite(values):
        return f"not finite: {name!r} has {count} infinite or NaN values"
    with np.errstate(over="ignore"):
        count = sum(count_non_finite(row.astype(FLOATS[dtype])) for row in np.atleast_2d(values))
    return (
        f"overflow: {count} values of {name!r} ({values.dtype.name}) are too large for {dtype}; "
        "choose a wider --dtype"
    )


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of the finite values of one tensor in float64; NaN when there are none."""

    mean: float
    std: float
    min: float
    max: float
    non_finite: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Result of comparing two tensors of the same name.

    Attributes:
        verdict: `identical` (same bits), `within tolerance`, or a description of the difference.
        ok: whether the verdict is acceptable.
        shape, dtype: of a and of b, None where the tensor is missing.
        max_abs: largest |a - b|, in float64.
        max_rel: largest |a - b| / max(|a|, |b|), 0 where both are 0.
        different: number of unequal values.
        a, b: statistics of the two.
    """

    name: str
    verdict: str
    ok: bool
    shape: tuple[Shape | None, Shape | None]
    dtype: tuple[str | None, str | None]
    max_abs: float | None = None
    max_rel: float | None = None
    different: int | None = None
    a: Statistics | None = None
    b: Statistics | None = None


def compare(
    name: str, a: np.ndarray, b: np.ndarray, *, atol: float, rtol: float, allow_dtype: bool
) -> Comparison:
    """Compares two tensors of equal shape; |a - b| <= atol + rtol * |b| is accepted."""
    same_dtype = a.dtype == b.dtype
    identical, outside, different = same_dtype, 0, 0
    max_abs = max_rel = 0.0
    sums_a, sums_b = _Sums(), _Sums()
    for part_a, part_b in zip(_chunks(a), _chunks(b), strict=True):
        x, y = part_a.astype(np.float64), part_b.astype(np.float64)
        sums_a.add(x)
        if same_dtype and np.array_equal(bit_view(part_a), bit_view(part_b)):
            sums_b.add(x)
            continue
        sums_b.add(y)
        identical = False
        # inf - inf and 0 / 0 give NaN, which counts as outside the tolerance.
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = np.abs(x - y)
            relative = gap / np.maximum(np.abs(x), np.abs(y))
            outside += int(np.count_nonzero(~(gap <= atol + rtol * np.abs(y))))
        different += int(np.count_nonzero(gap != 0))
        max_abs = max(max_abs, float(np.max(gap, initial=0.0, where=~np.isnan(gap))))
        max_rel = max(max_rel, float(np.max(relative, initial=0.0, where=~np.isnan(relative))))
    stats_a, stats_b = sums_a.result(), sums_b.result()
    if stats_a.non_finite or stats_b.non_finite:
        verdict, ok = f"not finite: {stats_a.non_finite} and {stats_b.non_finite} values", False
    elif outside:
        verdict, ok = f"different: {outside} of {a.size} values outside the tolerance", False
    elif not same_dtype:
        verdict, ok = "other dtype, values agree", allow_dtype
    else:
        verdict, ok = "identical" if identical else "within tolerance", True
    shapes, dtypes = (a.shape, b.shape), (a.dtype.name, b.dtype.name)
    return Comparison(
        name, verdict, ok, shapes, dtypes, max_abs, max_rel, different, stats_a, stats_b
    )


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields flat pieces in C order, bounded in size for any strides."""
    if array.size <= _COMPARE_CHUNK:
        yield np.ascontiguousarray(array).reshape(-1)
    elif array.ndim == 1:
        for start in range(0, array.size, _COMPARE_CHUNK):
            yield array[start : start + _COMPARE_CHUNK]
    else:
        rows = max(1, _COMPARE_CHUNK // math.prod(array.shape[1:]))
        for start in range(0, len(array), rows):
            yield np.ascontiguousarray(array[start : start + rows]).reshape(-1)


class _Sums:
    """Accumulates statistics chunk by chunk."""

    def __init__(self) -> None:
        self._count, self._non_finite = 0, 0
        self._sum, self._squares = 0.0, 0.0
        self._min, self._max = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        finite = values[np.isfinite(values)]
        self._non_finite += values.size - finite.size
        if finite.size:
            self._count += finite.size
            self._sum += float(finite.sum())
            self._squares += float(np.dot(finite, finite))
            self._min = min(self._min, float(finite.min()))
            self._max = max(self._max, float(finite.max()))

    def result(self) -> Statistics:
        if not self._count:
            return Statistics(math.nan, math.nan, math.nan, math.nan, self._non_finite)
        mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - mean * mean)
        return Statistics(mean, math.sqrt(variance), self._min, self._max, self._non_finite)
