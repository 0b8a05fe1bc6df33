"""Comparison of two tensors: verdicts and statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.convert.tensors import compare

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), size=st.integers(0, 20), atol=st.floats(0, 2), rtol=st.floats(0, 0.5))
def test_compare_agrees_with_numpy(
    data: st.DataObject, size: int, atol: float, rtol: float
) -> None:
    a = np.array(data.draw(st.lists(FLOATS, min_size=size, max_size=size)), np.float32)
    b = a.copy()
    for position in data.draw(st.lists(st.integers(0, max(0, size - 1)), max_size=3)):
        if size:
            b[position] = data.draw(FLOATS)
    row = compare("w", a, b, atol=atol, rtol=rtol, allow_dtype=False)
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = bool(np.isfinite(x).all() and np.isfinite(y).all())
    assert row.ok == (finite and bool((np.abs(x - y) <= atol + rtol * np.abs(y)).all()))
    if finite:
        assert row.max_abs == np.abs(x - y).max(initial=0)
        assert (row.verdict == "identical") == (a.tobytes() == b.tobytes())


def test_statistics_of_many_chunks_equal_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xcomp_jax.convert.tensors._COMPARE_CHUNK", 64)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 30)).astype(np.float32)
    b = a.T.copy().T  # same values, other strides
    b[17, 23] += 1
    row = compare("w", a, b, atol=0, rtol=0, allow_dtype=False)
    assert (row.different, row.max_abs) == (1, pytest.approx(1, rel=1e-6))
    assert row.a is not None
    assert row.a.mean == pytest.approx(a.mean(dtype=np.float64))
    assert row.a.std == pytest.approx(a.std(dtype=np.float64))
    assert (row.a.min, row.a.max) == (a.min(), a.max())
    assert row.max_rel == pytest.approx(
        1 / max(abs(float(a[17, 23])), abs(float(b[17, 23]))), rel=1e-5
    )


def test_non_finite_tensors_differ() -> None:
    values = np.full(3, np.nan, np.float32)
    row = compare("w", values, values, atol=9, rtol=9, allow_dtype=True)
    assert row.verdict == "not finite: 3 and 3 values"
    assert not row.ok
    assert row.a is not None
    assert math.isnan(row.a.mean)
