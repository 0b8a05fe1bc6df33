"""Tests of padding, caching and causality of the compressing decoder."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import TINY, exact, tiny_params
from xcomp_jax.config import CompressionConfig, ModelConfig
from xcomp_jax.engine.generate import generate
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import PrefillOutput
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp

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


DEAR = ("cosine uniform", "stepwise suffix")
"""Compressions of the slow run only: the others keep and drop tokens in the same ways."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in DEAR else [])
        for name in COMPRESSIONS
    ],
    name="config",
)
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
    """Pads rows of different lengths with values that would change a result."""
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


@functools.partial(jax.jit, static_argnames="model")
def prefill(
    model: XComp, params: Params, parts: Any, lengths: Lengths
) -> tuple[PrefillOutput, jax.Array]:
    """Returns the output of a prefill, and the logits [B, vocab] after the last text token."""
    out = apply.prefill(model, params, *parts, lengths, keep_cache=True)
    last = jnp.take_along_axis(out.suffix, (lengths.suffix - 1)[:, None, None], axis=1)[:, 0]
    return out, apply.logits(model, params, last)


def answer(config: ModelConfig, parts: Any, lengths: Lengths) -> tuple[np.ndarray, np.ndarray]:
    """Returns greedy ids [B, 6] and the logits of each step."""
    model, params = XComp(config), tiny_params()
    out, logits = prefill(model, params, parts, lengths)
    assert out.cache is not None
    settings = GenerationConfig(max_new_tokens=6)
    done = generate(model, params, logits, out.cache, settings, record=True)
    return np.asarray(done.ids), np.asarray(done.logits)


# Two videos of different lengths, and the slots of a batch of both. All tests use these shapes:
# each compression costs three prefill programs and as many decoding loops.
VIDEOS = (inputs(0, 5, 8, 7), inputs(1, 3, 4, 11))
EXACT = [exact(*(part.shape[1] for part in video)) for video in VIDEOS]
SLOTS = (8, 48, 16)
LENGTHS = jax.tree.map(lambda *rows: np.concatenate(rows), *EXACT)


def together(*videos: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Pads videos to one batch."""
    return [
        padded(list(parts), n) for parts, n in zip(zip(*videos, strict=True), SLOTS, strict=True)
    ]


def test_decoder_padding_changes_no_real_token(config: ModelConfig) -> None:
    alone = [answer(config, *one) for one in zip(VIDEOS, EXACT, strict=True)]
    ids, logits = answer(config, together(*VIDEOS), LENGTHS)
    for row, (want_ids, want_logits) in enumerate(alone):
        np.testing.assert_array_equal(ids[row], want_ids[0])
        np.testing.assert_allclose(logits[row], want_logits[0], atol=2e-4)
    # Control: one padded video token counted as real (a whole run of them, so that it compresses).
    wrong = LENGTHS.replace(visual=LENGTHS.visual + 4)
    _, wrong_logits = answer(config, together(*VIDEOS), wrong)
    assert np.abs(wrong_logits[0] - alone[0][1][0]).max() > 2e-3


def test_cached_decoding_any_schedule_equals_full_pass(config: ModelConfig) -> None:
    prefix, visual, suffix = VIDEOS[0]
    ids, logits = answer(config, VIDEOS[0], EXACT[0])
    longest = np.concatenate([suffix, ids], axis=1)

    def full_passes(texts: list[np.ndarray], lengths: list[int]) -> np.ndarray:
        """Computes logits of two sequences without a cache; tokens beyond a length are padding."""
        parts = together(*((prefix, visual, text) for text in texts))
        real = exact(5, 32, 7, batch=2).replace(suffix=np.array(lengths, np.int32))
        _, logits = prefill(XComp(config), tiny_params(), parts, real)
        return np.asarray(logits)

    for step in (1, 3, 4):
        want = full_passes([longest, longest], [7 + step, 8 + step])
        np.testing.assert_allclose(logits[0, step : step + 2], want, atol=2e-4)
    # Control: another last token than in the cache.
    other = longest.copy()
    other[0, 10] = (other[0, 10] + 1) % TINY.llm.vocab_size
    same, changed = full_passes([longest, other], [11, 11])
    np.testing.assert_allclose(logits[0, 4], same, atol=2e-4)
    assert np.abs(logits[0, 4] - changed).max() > 2e-3


def test_decoder_later_token_leaves_earlier_unchanged(config: ModelConfig) -> None:
    parts = VIDEOS[0]
    changed = (parts[0], parts[1], parts[2].copy())
    changed[2][0, 3] = (changed[2][0, 3] + 1) % TINY.llm.vocab_size
    before, after = (
        prefill(XComp(config), tiny_params(), inputs, EXACT[0])[0] for inputs in (parts, changed)
    )
    np.testing.assert_array_equal(before.prefix, after.prefix)
    np.testing.assert_array_equal(before.visual, after.visual)
    np.testing.assert_array_equal(before.suffix[:, :3], after.suffix[:, :3])
    assert np.abs(np.asarray(before.suffix - after.suffix)[:, 3:]).min(axis=-1).max() > 0


def test_decoder_bfloat16_close_to_float32() -> None:
    want = prefill(XComp(TINY), tiny_params(), VIDEOS[0], EXACT[0])[1]
    half = XComp(dataclasses.replace(TINY, dtype="bfloat16"))
    out, got = prefill(half, tiny_params(), VIDEOS[0], EXACT[0])
    assert got.dtype == np.float32, "logits stay float32"
    assert out.cache is not None
    assert out.cache[0].key.dtype == jnp.bfloat16
    spread = float(np.std(want))
    assert np.abs(np.asarray(got - want)).max() < 0.25 * spread
    other = prefill(half, tiny_params(), inputs(5, 5, 8, 7), EXACT[0])[1]
    assert np.abs(np.asarray(other - want)).max() > spread
