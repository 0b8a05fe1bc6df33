"""Tests of attention over cache and text, for all implementations of the two parts."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from tests.ops.parity import assert_parity
from xcomp_jax.ops import cached_attention as module
from xcomp_jax.ops.attention import pallas_gpu, pallas_tpu
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.cached_attention import cached_attention
from xcomp_jax.ops.target import Target

HEADS, KV_HEADS, SIZE, CACHED, ROOM = 6, 2, 64, 37, 24
BLOCKS = {
    pallas_tpu: pallas_tpu.BlockSizes(),
    pallas_gpu: pallas_gpu.BlockSizes(forward_queries=16, forward_keys=16),
}


def definition(query, cached, mask, new, written) -> np.ndarray:
    """Computes one softmax over cache and text in float64, row by row and head by head."""
    out = np.zeros(query.shape)
    for b, i, n in np.ndindex(query.shape[:3]):
        k = n // (HEADS // KV_HEADS)
        last = written[b] + i + 1
        key, value = (
            np.concatenate([old[b, mask[b], k], text[b, :last, k]]).astype(np.float64)
            for old, text in zip(cached, new, strict=True)
        )
        weights = np.exp(key @ query[b, i, n].astype(np.float64) * SIZE**-0.5)
        out[b, i, n] = weights @ value / weights.sum()
    return out


def inputs(rows: int):
    """Draws two examples, one with a padded cache, with different amounts of text."""
    rng = np.random.default_rng(rows)

    def draw(tokens: int, heads: int) -> np.ndarray:
        return rng.normal(size=(2, tokens, heads, SIZE)).astype(np.float32)

    cached = draw(CACHED, KV_HEADS), draw(CACHED, KV_HEADS)
    new = draw(ROOM, KV_HEADS), draw(ROOM, KV_HEADS)
    mask = np.stack([rng.random(CACHED) < 0.6, np.ones(CACHED, bool)])
    return draw(rows, HEADS), cached, mask, new, np.array([ROOM - rows, 3])


def interpreted(kernel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces `attention` by an interpreted kernel; returns the list of requested names."""
    requested = []

    def attend(query, key, value, *, causal, key_mask, implementation, return_lse, query_offset=0):
        requested.append(implementation)
        problem = Problem.of(query, key, value, causal, key_mask, query_offset, return_lse)
        return kernel.attention(
            problem,
            query,
            key,
            value,
            key_mask,
            target=Target("none", "none"),
            blocks=BLOCKS[kernel],
            interpret=True,
        )

    monkeypatch.setattr(module, "attention", attend)
    return requested


@pytest.mark.parametrize("kernel", [None, pallas_tpu, pallas_gpu], ids=["xla", "tpu", "gpu"])
@pytest.mark.parametrize("rows", [1, 5])
def test_cached_attention_any_kernel_equals_definition(
    rows: int, kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "xla" if kernel is None else kernel.__name__.split(".")[-1]
    requested = [] if kernel is None else interpreted(kernel, monkeypatch)
    query, cached, mask, new, written = inputs(rows)
    attend = jax.jit(functools.partial(cached_attention, implementation=name))
    got = attend(query, cached, mask, new, written)
    want = definition(query, cached, mask, new, written)
    for control in (
        definition(query, cached, np.ones_like(mask), new, written),
        definition(query, cached, mask, new, written - 1),
        definition(1.01 * query, cached, mask, new, written),
    ):
        assert_parity(got, want, atol=1e-5, control=control)
    assert kernel is None or requested == [name, name], "cache and text"


def test_cached_attention_empty_cache_text_only() -> None:
    query, cached, mask, new, written = inputs(5)
    mask[0] = False
    got = jax.jit(cached_attention)(query, cached, mask, new, written)
    np.testing.assert_allclose(got, definition(query, cached, mask, new, written), atol=1e-5)


def test_cached_attention_unnamed_single_row_uses_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = interpreted(pallas_gpu, monkeypatch)
    for rows in (1, 5):  # a new function, or JAX would reuse the trace of another test
        jax.eval_shape(lambda *arrays: cached_attention(*arrays), *inputs(rows))
    assert requested == ["xla", "xla", None, None]
