"""Tests that the model uses the kernels that its configuration names."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.tiny import TINY, exact, tiny_params
from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import ConfigError, KernelConfig, SelectionConfig, from_dict
from xcomp_jax.models import apply
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.selection.plan import plan_scoring
from xcomp_jax.selection.window_pass import TextQuery, prefill_window, score_window

IDS = jnp.zeros((1, 3), jnp.int32)


def encode(model: XComp, params: Params) -> Any:
    return apply.encode(model, params, jnp.zeros((1, 4, 24, 24, 3)))


def prefill_video(model: XComp, params: Params) -> Any:
    return apply.prefill_video(model, params, IDS, jnp.zeros((1, 16, 32)), exact(3, 16, 0))


def score(model: XComp, params: Params) -> Any:
    layer_groups = plan_layer_groups(TINY.compression, num_layers=6, tokens_per_frame=4)
    selection = SelectionConfig(segment_clips=2, segment_stride=1)
    plan = plan_scoring(
        layer_groups, selection, visual_tokens=128, tokens_per_frame=4, prefix_length=3
    )
    visual = jnp.zeros((1, 128, 32))
    caches = prefill_window(XComp(TINY), params, IDS, visual, plan.groups)
    query = TextQuery(
        ids=IDS,
        length=jnp.array([3]),
        question_start=jnp.array([0]),
        header=jnp.array([3]),
    )
    return score_window(model, params, query, caches, plan)


def extend(model: XComp, params: Params) -> Any:
    cache = apply.prefill_video(XComp(TINY), params, IDS, jnp.zeros((1, 16, 32)), exact(3, 16, 0))
    new = apply.empty_text_cache(model, params, 1, 4)
    return apply.extend(model, params, IDS[:, :1], jnp.array([0]), cache, new)


PARTS = (encode, prefill_video, extend, score)
USERS = {
    "encoder_attention": {encode},
    "decoder_attention": {prefill_video},
    "cached_attention": {extend, score},
    "clip_scores": {score},
}


@pytest.mark.parametrize("named", USERS)
def test_kernel_config_unsupported_kernel_refused(named: str) -> None:
    kernels = from_dict(KernelConfig, {named: "pallas_tpu"})
    model, params = XComp(dataclasses.replace(TINY, kernels=kernels)), tiny_params()
    for call in PARTS:
        if call in USERS[named]:
            with pytest.raises(ValueError, match="implementation 'pallas_tpu' refuses: "):
                jax.eval_shape(lambda p, c=call: c(model, p), params)
        else:
            jax.eval_shape(lambda p, c=call: c(model, p), params)


def test_kernel_config_unknown_name_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be one of \['xla', 'pallas_tpu', 'pallas_gpu'\]"):
        from_dict(KernelConfig, {"clip_scores": "cudnn"})
