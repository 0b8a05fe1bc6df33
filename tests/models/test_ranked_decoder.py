"""Tests of the decoder with ranked drops: padding, and dependence on the question."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.test_sequences import inputs, padded
from tests.tiny import TINY, exact, tiny_params
from xcomp_jax.config import CompressionConfig
from xcomp_jax.models import apply
from xcomp_jax.models.decoder_state import PrefillOutput
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp

RATIOS = (0.55, 0.3)
# First evenly, then by attention, with ratios that divide no length.
MODEL = XComp(
    dataclasses.replace(
        TINY,
        compression=CompressionConfig(
            schedule="ranked",
            ranking="uniform0_attention",
            drop_after_layers=(2, 4),
            ratios=RATIOS,
        ),
    )
)


def prefill_and_step(parts: Any, lengths: Lengths) -> tuple[PrefillOutput, jax.Array]:
    """Runs a prefill and one more token; returns the output and the logits after it."""
    return _prefill_and_step(tiny_params(), parts, lengths)


@jax.jit
def _prefill_and_step(params: Any, parts: Any, lengths: Lengths) -> tuple[PrefillOutput, jax.Array]:
    out = apply.prefill(MODEL, params, *parts, lengths, keep_cache=True, collect_layers=True)
    batch = parts[0].shape[0]
    new = apply.empty_text_cache(MODEL, params, batch, 1)
    token, written = jnp.full((batch, 1), 9), jnp.zeros(batch, jnp.int32)
    hidden, _ = apply.extend(MODEL, params, token, written, out.cache, new)
    return out, apply.logits(MODEL, params, hidden[:, 0])


@functools.cache
def batch() -> tuple[list[tuple[np.ndarray, ...]], list[np.ndarray], Lengths]:
    """Returns two videos of different lengths, and the same padded to one batch."""
    videos = [inputs(0, 5, 8, 7), inputs(1, 3, 4, 11)]
    parts = list(zip(*videos, strict=True))
    together = [padded(list(part), n) for part, n in zip(parts, (8, 48, 16), strict=True)]
    lengths = Lengths(*(np.array([p.shape[1] for p in part], np.int32) for part in parts))
    return videos, together, lengths


def test_ranked_decoder_padding_changes_no_real_token() -> None:
    videos, together, lengths = batch()
    many, many_logits = prefill_and_step(together, lengths)
    row, video = 1, videos[1]  # alone, so without any padding
    one, logits = prefill_and_step(video, exact(*(part.shape[1] for part in video)))
    np.testing.assert_allclose(many_logits[row], logits[0], atol=2e-4)
    counts = [video[1].shape[1], *(int(video[1].shape[1] * ratio) for ratio in RATIOS)]
    for stage, count in enumerate(counts):
        mask = np.asarray(many.cache[stage].mask[row])
        assert mask.sum() == many.cache[stage].length[row] == one.cache[stage].length[0]
        for got, want in (
            (many.layers[stage], one.layers[stage]),
            (many.cache[stage].key, one.cache[stage].key),
            (many.cache[stage].value, one.cache[stage].value),
        ):
            np.testing.assert_allclose(got[:, row, mask], want[:, 0], atol=2e-4)
        if stage:
            kept, alone = many.survivors[stage], one.survivors[stage]
            assert alone.indices.shape == (1, count)
            assert kept.count[row] == alone.count[0] == count
            np.testing.assert_array_equal(kept.indices[row, :count], alone.indices[0])
    # Control: one padded video token counted as real.
    _, wrong = prefill_and_step(together, lengths.replace(visual=lengths.visual + 1))
    assert np.abs(np.asarray(wrong - many_logits)).max() > 2e-3


def test_ranked_drop_other_question_selects_other_tokens() -> None:
    _, together, lengths = batch()
    before, _ = prefill_and_step(together, lengths)
    last = int(lengths.suffix[0]) - 1
    other = [part.copy() for part in together]
    other[2][0, last] = (other[2][0, last] + 1) % TINY.llm.vocab_size
    other[2][:, -1] += 1  # padding, which affects nothing
    after, _ = prefill_and_step(other, lengths)
    even, ranked = 1, 2
    assert before.survivors[even].attention is None
    np.testing.assert_array_equal(before.survivors[even].indices, after.survivors[even].indices)
    same = [
        np.array_equal(before.survivors[ranked].indices[row], after.survivors[ranked].indices[row])
        for row in (0, 1)
    ]
    assert same == [False, True]
