"""Comparison of batches."""

from __future__ import annotations

import numpy as np

from xcomp_jax.data.pipeline import Batch


def assert_same(actual: Batch, expected: Batch) -> None:
    """Asserts that two batches have equal fields, dtypes and values."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
