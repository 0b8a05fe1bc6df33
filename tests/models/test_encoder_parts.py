"""Tests of the encoder's parts that have a form of their own on accelerators or in bfloat16."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xcomp_jax.models import tome
from xcomp_jax.models.gelu import gelu
from xcomp_jax.models.layer_norm import moments
from xcomp_jax.ops.target import Target


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merging_by_products_equals_by_rows(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(40, 16)), dtype)
    size = jnp.asarray(rng.integers(1, 60, 40), jnp.float32)
    place = jnp.asarray(rng.integers(0, 25, 40))
    empty = (jnp.ones((25, 16)), jnp.ones((25,)))
    sums, sizes = tome._add_products(*empty, x, size, place)
    want, want_sizes = tome._add_rows(*empty, x, size, place)
    np.testing.assert_array_equal(sizes, want_sizes)
    np.testing.assert_allclose(sums, want, rtol=2e-6, atol=1e-4)
    # Control: every source one place further.
    other, _ = tome._add_products(*empty, x, size, (place + 1) % 25)
    assert np.abs(other - want).max() > 1


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_matches_equal_sort_and_argmax(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tome, "current_target", lambda: Target(platform, ""))
    rng = np.random.default_rng(1)
    similarity = jnp.asarray(rng.integers(0, 9, (30, 30)), jnp.float32)  # many ties
    most, best = tome._first_largest(similarity)
    np.testing.assert_array_equal(best, jnp.argmax(similarity, axis=1))
    scores = most.at[jnp.array([3, 4])].set(jnp.nan)  # as of a token without direction
    order = jnp.argsort(-scores, stable=True)
    np.testing.assert_array_equal(jnp.argsort(tome._ranks(scores)), order)


def test_gelu_of_all_bfloat16_is_rounded_exact_one() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    x = jax.lax.bitcast_convert_type(jnp.asarray(bits), jnp.bfloat16)
    x = x[jnp.isfinite(x) & (jnp.abs(x) < 1e4)]
    exact = jax.nn.gelu(x.astype(jnp.float32), approximate=False)
    got = gelu(x).astype(jnp.float32)
    # Half a unit of bfloat16's last place, and what 1 + erf loses below -3.
    assert jnp.all(jnp.abs(got - exact) <= 2.0**-8 * jnp.abs(exact) + 1e-6)
    control = jax.nn.gelu(x.astype(jnp.float32), approximate=True)
    assert not jnp.all(jnp.abs(control - exact) <= 2.0**-8 * jnp.abs(exact) + 1e-6)


def test_bfloat16_moments_in_one_pass_equal_two() -> None:
    rng = np.random.default_rng(2)
    x = jnp.asarray(3 + rng.normal(size=(8, 1024)), jnp.bfloat16)
    got = moments(x)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(got.mean[:, 0], wide.mean(-1), rtol=1e-5)
    np.testing.assert_allclose(got.variance[:, 0], wide.var(-1), rtol=1e-4)
