"""Tests of YaRN against values of another implementation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from xcomp_jax.ops.rope import Yarn, rope_base, rope_tables

# `ROPE_INIT_FUNCTIONS["yarn"]` of transformers 5 with head size 128, theta 1e6, factor 4 and a
# trained context of 32,768; channels in front of, inside and behind the ramp.
FREQUENCIES = {
    0: 1.0,
    20: 0.01333521492779255,
    23: 0.006978305988013744,
    24: 0.005375321488827467,
    28: 0.0018482765881344676,
    33: 0.0004503235686570406,
    40: 4.4456985051510856e-05,
    41: 3.582531644497067e-05,
    63: 3.102344408034696e-07,
}
SCALE = 1.138629436111989


def test_yarn_frequencies_equal_transformers() -> None:
    yarn = rope_base(1e6, 4.0)
    assert isinstance(yarn, Yarn)
    plain = np.float32(1) / np.float32(1e6) ** (np.arange(0, 128, 2, dtype=np.float32) / 128)
    found = yarn.frequencies(plain)
    expected = np.array(list(FREQUENCIES.values()))
    np.testing.assert_allclose(found[list(FREQUENCIES)], expected, rtol=1e-6)
    assert yarn.scale == SCALE
    assert not np.allclose(plain[list(FREQUENCIES)], expected, rtol=1e-2), "control: plain"


def test_rope_tables_with_yarn_are_scaled_and_slower() -> None:
    positions = jnp.array([[0, 100_000]])
    cos, _ = rope_tables(positions, 128, rope_base(1e6, 4.0), jnp.dtype(jnp.float32))
    plain, _ = rope_tables(positions, 128, rope_base(1e6, 1.0), jnp.dtype(jnp.float32))
    np.testing.assert_allclose(cos[0, 0], SCALE, rtol=1e-6)
    np.testing.assert_allclose(plain[0, 0], 1.0)
    angle = 100_000 * FREQUENCIES[63]
    np.testing.assert_allclose(cos[0, 1, 63], SCALE * np.cos(angle), rtol=1e-5)
