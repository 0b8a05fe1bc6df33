"""Tests of blockwise attention against its definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xcomp_jax.ops.attention import attention, xla


@pytest.fixture(autouse=True)
def short_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes short sequences use the causal groups of long ones."""
    monkeypatch.setattr(xla, "GROUP_ROWS", 32)


def definition(q, k, v, *, causal: bool, mask=None) -> np.ndarray:
    """Computes softmax attention in float64, one head at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    batch, rows, heads, size = q.shape
    group = heads // k.shape[2]
    out = np.zeros(q.shape)
    for b in range(batch):
        for h in range(heads):
            scores = q[b, :, h] @ k[b, :, h // group].T / np.sqrt(size)
            if causal:
                scores[np.triu_indices(rows, 1)] = -np.inf
            if mask is not None:
                scores[:, ~mask[b]] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[b, :, h] = weights / weights.sum(axis=1, keepdims=True) @ v[b, :, h // group]
    return out


def random_inputs(rows: int, heads: int, kv_heads: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(rows)
    shapes = ((2, rows, heads, 8), (2, rows, kv_heads, 8), (2, rows, kv_heads, 8))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (12, 2), (7, 1)])
@pytest.mark.parametrize("rows", [1, 16, 17, 150])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("block_bytes", [0, 1 << 22], ids=["separate heads", "heads together"])
def test_xla_attention_in_blocks_equals_definition(
    rows: int,
    heads: int,
    kv_heads: int,
    causal: bool,
    block_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xla, "BLOCK_BYTES", block_bytes)
    q, k, v = random_inputs(rows, heads, kv_heads)
    mask = np.arange(rows)[None, :] < np.array([[rows], [max(1, rows - 5)]])
    attend = functools.partial(xla.attention, causal=causal, query_block=16)
    got, _ = jax.jit(attend)(q, k, v, key_mask=jnp.asarray(mask))
    want = definition(q, k, v, causal=causal, mask=mask)
    np.testing.assert_allclose(got, want, atol=1e-5)
    if rows > 1:
        control, _ = jax.jit(attend)(1.3 * q, k, v, key_mask=jnp.asarray(mask))
        assert np.abs(control - want).max() > 1e-3


@pytest.mark.parametrize("block_bytes", [0, 1 << 22], ids=["separate heads", "heads together"])
def test_xla_gradients_any_block_size_equal(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xla, "BLOCK_BYTES", block_bytes)
    q, k, v = random_inputs(70, 4, 2)

    def gradients(block: int):
        def loss(*inputs):
            return jnp.sum(xla.attention(*inputs, causal=True, query_block=block)[0] ** 2)

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

    for one, many in zip(gradients(128), gradients(16), strict=True):
        np.testing.assert_allclose(one, many, atol=1e-5)


def test_xla_memory_longer_sequence_grows_linearly() -> None:
    def temporary_bytes(rows: int) -> int:
        shapes = [jax.ShapeDtypeStruct((1, rows, n, 8), jnp.float32) for n in (2, 1, 1)]
        compiled = jax.jit(lambda q, k, v: attention(q, k, v, causal=True)).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary_bytes(4096), temporary_bytes(16384)
    assert large < 5 * small
    assert large < 16384 * 16384 * 4 / 4, "a quarter of one head's S x S scores"
