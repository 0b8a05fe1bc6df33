"""Padding, caching and causality of the compressing decoder."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from tests.tiny import TINY, exact, tiny_params
from xcomp_jax.config import CompressionConfig, ModelConfig
from xcomp_jax.inference.generate import GenerationConfig, generate
from xcomp_jax.inference.programs import prefill
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp

COMPRESSIONS = {
    "cosine suffix": CompressionConfig(),
    "cosine uniform": CompressionConfig(keep="uniform"),
    "coarse": CompressionConfig(max_distinct_lengths=2),
    "stepwise suffix": CompressionConfig(
        schedule="stepwise", drop_after_layers=(2, 4), strides=(2, 2)
    ),
    "stepwise average": CompressionConfig(
        schedule="stepwise", keep="average", drop_after_layers=(3,), strides=(4,)
    ),
    "none": CompressionConfig(schedule="none"),
}


@pytest.fixture(params=COMPRESSIONS, name="config")
def config_fixture(request: pytest.FixtureRequest) -> ModelConfig:
    return dataclasses.replace(TINY, compression=COMPRESSIONS[request.param])


def inputs(seed: int, prefix: int, frames: int, suffix: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, TINY.llm.vocab_size, (1, prefix)).astype(np.int32),
        rng.normal(size=(1, frames * 4, 32)).astype(np.float32),
        rng.integers(0, TINY.llm.vocab_size, (1, suffix)).astype(np.int32),
    )


def padded(parts: list[np.ndarray], size: int) -> np.ndarray:
    """Rows of different lengths, filled up with values that would be noticed."""
    return np.concatenate(
        [
            np.pad(
                part,
                [(0, 0), (0, size - part.shape[1])] + [(0, 0)] * (part.ndim - 2),
                constant_values=7,
            )
            for part in parts
        ]
    )


def answer(config: ModelConfig, parts: Any, lengths: Lengths) -> tuple[np.ndarray, np.ndarray]:
    """Greedy ids [B, 6] and first logits [B, vocab]."""
    model, params = XComp(config), tiny_params()
    logits, cache = prefill(model, params, *parts, lengths)
    out = generate(model, params, logits, cache, GenerationConfig(max_new_tokens=6), record=True)
    return np.asarray(out.ids), np.asarray(out.logits)


def test_padding_changes_no_real_token(config: ModelConfig) -> None:
    videos = [inputs(0, 5, 8, 7), inputs(1, 3, 4, 11)]
    alone = [answer(config, v, exact(*(p.shape[1] for p in v))) for v in videos]
    sizes = (8, 48, 16)
    together = [
        padded(list(parts), n) for parts, n in zip(zip(*videos, strict=True), sizes, strict=True)
    ]
    lengths = Lengths(
        *(np.array([p.shape[1] for p in parts], np.int32) for parts in zip(*videos, strict=True))
    )
    ids, logits = answer(config, together, lengths)
    for row, (want_ids, want_logits) in enumerate(alone):
        np.testing.assert_array_equal(ids[row], want_ids[0])
        np.testing.assert_allclose(logits[row], want_logits[0], atol=2e-4)
    # Control: one padded video token counted as real (a whole run of them, so that it compresses).
    wrong = lengths.replace(visual=lengths.visual + 4)
    _, wrong_logits = answer(config, together, wrong)
    assert np.abs(wrong_logits[0] - alone[0][1][0]).max() > 2e-3


def test_cached_decoding_equals_the_full_pass(config: ModelConfig) -> None:
    prefix, visual, suffix = inputs(2, 4, 8, 5)
    ids, logits = answer(config, (prefix, visual, suffix), exact(4, 32, 5))
    model, params = XComp(config), tiny_params()
    longest = np.concatenate([suffix, ids], axis=1)

    def full_pass(text: np.ndarray, length: int) -> np.ndarray:
        """Without a cache; what lies behind `length` is padding, so one program serves all."""
        logits, _ = prefill(model, params, prefix, visual, text, exact(4, 32, length))
        return np.asarray(logits[0])

    for step in range(1, 6):
        np.testing.assert_allclose(logits[0, step], full_pass(longest, 5 + step), atol=2e-4)
    # Control: the last token is not the one the cache was fed.
    other = longest.copy()
    other[0, 8] = (other[0, 8] + 1) % TINY.llm.vocab_size
    assert np.abs(logits[0, 4] - full_pass(other, 9)).max() > 2e-3


@functools.cache
def _hidden(config: ModelConfig):
    model = XComp(config)

    @jax.jit
    def run(prefix, visual, suffix):
        lengths = exact(prefix.shape[1], visual.shape[1], suffix.shape[1])
        out = model.apply(
            {"params": tiny_params()}, prefix, visual, suffix, lengths, method="prefill"
        )
        return out.prefix, out.visual, out.suffix

    return run


def test_later_tokens_never_reach_earlier_ones(config: ModelConfig) -> None:
    parts = inputs(3, 4, 8, 5)
    changed = (parts[0], parts[1], parts[2].copy())
    changed[2][0, 3] = (changed[2][0, 3] + 1) % TINY.llm.vocab_size
    before, after = _hidden(config)(*parts), _hidden(config)(*changed)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(before[2][:, :3], after[2][:, :3])
    assert np.abs(np.asarray(before[2] - after[2])[:, 3:]).min(axis=-1).max() > 0


def test_bfloat16_follows_float32() -> None:
    parts = inputs(4, 4, 8, 5)
    lengths = exact(4, 32, 5)
    want, _ = prefill(XComp(TINY), tiny_params(), *parts, lengths)
    half = XComp(dataclasses.replace(TINY, dtype="bfloat16"))
    got, cache = prefill(half, tiny_params(), *parts, lengths)
    assert got.dtype == np.float32, "logits stay float32"
    assert cache[0].key.dtype == jax.numpy.bfloat16
    spread = float(np.std(want))
    assert np.abs(np.asarray(got - want)).max() < 0.25 * spread
    other, _ = prefill(half, tiny_params(), *inputs(5, 4, 8, 5), lengths)
    assert np.abs(np.asarray(other - want)).max() > spread
