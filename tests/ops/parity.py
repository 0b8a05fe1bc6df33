"""Comparison within a tolerance that a wrong variant must exceed."""

from __future__ import annotations

import numpy as np


def assert_parity(actual, expected, *, atol: float, control) -> None:
    """Checks `actual`, and that the wrong variant `control` misses by ten times the tolerance."""
    actual, expected, control = (np.asarray(x, np.float64) for x in (actual, expected, control))
    np.testing.assert_allclose(actual, expected, atol=atol, rtol=0)
    missed = np.abs(control - expected).max()
    assert missed > 10 * atol, f"tolerance {atol} too loose to see the control, {missed:.2g} off"
