"""The decoder with the base model's drop: padding, and what the choice depends on."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from tests.models.test_sequences import answer, inputs, padded
from tests.tiny import TINY, exact, tiny_params
from xcomp_jax.compression.ranking import Survivors
from xcomp_jax.config import CompressionConfig
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp

# First evenly, then by attention; shares that no length divides into.
MIXED = dataclasses.replace(
    TINY,
    compression=CompressionConfig(
        schedule="ranked",
        ranking="uniform0_attention",
        drop_after_layers=(2, 4),
        ratios=(0.55, 0.3),
    ),
)


@functools.partial(jax.jit, static_argnames="model")
def chosen(model: XComp, params, prefix, visual, suffix, lengths) -> tuple[Survivors, ...]:
    out = model.apply(
        {"params": params},
        *(prefix, visual, suffix, lengths),
        collect_layers=True,
        method="prefill",
    )
    return out.survivors


def test_padding_changes_no_real_token() -> None:
    videos = [inputs(0, 5, 8, 7), inputs(1, 3, 4, 11)]
    parts = list(zip(*videos, strict=True))
    together = [padded(list(p), n) for p, n in zip(parts, (8, 48, 16), strict=True)]
    lengths = Lengths(*(np.array([p.shape[1] for p in part], np.int32) for part in parts))
    ids, logits = answer(MIXED, together, lengths)
    stages = chosen(XComp(MIXED), tiny_params(), *together, lengths)
    for row, video in enumerate(videos):
        own = exact(*(part.shape[1] for part in video))
        want_ids, want_logits = answer(MIXED, video, own)
        np.testing.assert_array_equal(ids[row], want_ids[0])
        np.testing.assert_allclose(logits[row], want_logits[0], atol=2e-4)
        alone = chosen(XComp(MIXED), tiny_params(), *video, own)
        assert alone[0] is stages[0] is None
        for ratio, one, many in zip((0.55, 0.3), alone[1:], stages[1:], strict=True):
            count = int(video[1].shape[1] * ratio)
            assert int(one.count[0]) == int(many.count[row]) == count == one.indices.shape[1]
            np.testing.assert_array_equal(one.indices[0], many.indices[row, :count])
    # Control: one padded video token counted as real.
    _, wrong = answer(MIXED, together, lengths.replace(visual=lengths.visual + 1))
    assert np.abs(wrong - logits).max() > 2e-3


def test_the_question_chooses_the_tokens() -> None:
    prefix, visual, suffix = inputs(2, 4, 8, 5)
    other = suffix.copy()
    other[0, -1] = (other[0, -1] + 1) % TINY.llm.vocab_size
    before, after = (
        chosen(XComp(MIXED), tiny_params(), prefix, visual, text, exact(4, 32, 5))
        for text in (suffix, other)
    )
    np.testing.assert_array_equal(before[1].indices, after[1].indices)
    assert before[1].attention is None
    assert not np.array_equal(before[2].indices, after[2].indices)
