"""A tolerance that has been seen to notice something."""

from __future__ import annotations

import numpy as np


def assert_parity(actual, expected, *, atol: float, control) -> None:
    """`control` is computed wrongly on purpose: it must miss by ten times the tolerance."""
    actual, expected, control = (np.asarray(x, np.float64) for x in (actual, expected, control))
    np.testing.assert_allclose(actual, expected, atol=atol, rtol=0)
    missed = np.abs(control - expected).max()
    assert missed > 10 * atol, f"tolerance {atol} too loose to see the control, {missed:.2g} off"
