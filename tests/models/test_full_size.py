"""Tests of the published size by abstract evaluation."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from xcomp_jax.models import apply
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp, abstract_params
from xcomp_jax.variants import XCOMP_2B

FRAMES, TEXT = 1024, 863


def test_xcomp_2b_parameter_count_published() -> None:
    params = abstract_params(XCOMP_2B)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 1_838_128_640


def test_prefill_1024_frames_has_published_lengths() -> None:
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    tokens = FRAMES * XCOMP_2B.projector.tokens_per_frame
    out = jax.eval_shape(
        lambda params, prefix, visual, suffix, lengths: apply.prefill(
            XComp(XCOMP_2B), params, prefix, visual, suffix, lengths, keep_cache=True
        ),
        abstract_params(XCOMP_2B),
        shape((1, 14)),
        jax.ShapeDtypeStruct((1, tokens, XCOMP_2B.llm.hidden_size), jnp.bfloat16),
        shape((1, TEXT - 14)),
        Lengths(shape((1,)), shape((1,)), shape((1,))),
    )
    by_layer = [stage.key.shape[2] - TEXT for stage in out.cache for _ in range(stage.key.shape[0])]
    # Paper and published log: 16,16,16,15,...,1 tokens a frame, one per frame at the end.
    assert [n // FRAMES for n in by_layer] == [
        *(16, 16, 16, 15, 15, 14, 14, 13, 12, 12, 11, 10, 9, 9),
        *(8, 7, 6, 5, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1),
    ]
    assert out.visual.shape == (1, FRAMES, XCOMP_2B.llm.hidden_size)
    assert out.visual.dtype == jnp.bfloat16


def test_encode_one_clip_gives_128_tokens() -> None:
    vision = XCOMP_2B.vision
    clip = jax.ShapeDtypeStruct(
        (1, vision.clip_frames, vision.image_size, vision.image_size, 3), jnp.float32
    )
    tokens = jax.eval_shape(
        lambda params, x: apply.encode(XComp(XCOMP_2B), params, x),
        abstract_params(XCOMP_2B),
        clip,
    )
    assert tokens.shape == (1, 128, XCOMP_2B.llm.hidden_size)
