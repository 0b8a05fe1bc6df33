"""One tensor against another: how far apart, in numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from xcomp_jax.convert.dtypes import raw
from xcomp_jax.convert.layouts import Shape

_CHUNK_ELEMENTS = 1 << 21


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of the finite values of one tensor, as float64; NaN when there are none."""

    mean: float
    std: float
    min: float
    max: float
    non_finite: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row of a report.

    Attributes:
        verdict: `identical` (same bits), `within tolerance`, or what is wrong.
        ok: whether the verdict is acceptable.
        shape, dtype: of a and of b, None where the tensor is missing.
        max_abs: largest |a - b|, in float64.
        max_rel: largest |a - b| / max(|a|, |b|), 0 where both are 0.
        different: number of values that are not equal.
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
    """Compares two tensors of equal shape; accepted is |a - b| <= atol + rtol * |b|."""
    same_dtype = a.dtype == b.dtype
    identical, outside, different = same_dtype, 0, 0
    max_abs = max_rel = 0.0
    sums_a, sums_b = _Sums(), _Sums()
    for part_a, part_b in zip(_chunks(a), _chunks(b), strict=True):
        x, y = part_a.astype(np.float64), part_b.astype(np.float64)
        sums_a.add(x)
        if same_dtype and np.array_equal(raw(part_a), raw(part_b)):
            sums_b.add(x)
            continue
        sums_b.add(y)
        identical = False
        # Infinite minus infinite and 0 / 0 are NaN on purpose: they count as outside below.
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
    """Flat pieces in C order, bounded in size whatever the strides."""
    if array.size <= _CHUNK_ELEMENTS:
        yield np.ascontiguousarray(array).reshape(-1)
    elif array.ndim == 1:
        for start in range(0, array.size, _CHUNK_ELEMENTS):
            yield array[start : start + _CHUNK_ELEMENTS]
    else:
        rows = max(1, _CHUNK_ELEMENTS // math.prod(array.shape[1:]))
        for start in range(0, len(array), rows):
            yield np.ascontiguousarray(array[start : start + rows]).reshape(-1)


class _Sums:
    """Statistics gathered chunk by chunk."""

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
