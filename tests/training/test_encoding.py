"""Tests visual tokens in training: stored features, whole clips, the projector's gradient."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.cases import assert_parity
from tests.tiny import TINY, tiny_params
from tests.training.tiny_batches import FRAMES, MODEL, STAGE, batch_of, norm, stored_of
from xcomp_jax.config import ConfigError, StageConfig
from xcomp_jax.models.xcomp import Params
from xcomp_jax.training.encoding import merged_features, visual_tokens


def test_stored_features_match_frames() -> None:
    params, batch = tiny_params(), batch_of(4)
    features = jax.jit(lambda p, f: merged_features(MODEL, STAGE, p, f))(params, batch["frames"])
    assert features.shape == (4, FRAMES * 4, TINY.vision.width)
    stored = {**batch, "merged_features": np.asarray(features)}
    del stored["frames"]
    tokens = jax.jit(lambda p, b: visual_tokens(MODEL, STAGE, p, b))
    got, want = tokens(params, stored), tokens(params, batch)
    control = tokens(params, {**stored, "merged_features": features[:, ::-1]})
    assert_parity(got, want, atol=1e-6, control=control)
    trains_vision = dataclasses.replace(STAGE, trainable=("vision", "llm"))
    with pytest.raises(ConfigError, match="remove 'vision', or train from videos"):
        visual_tokens(MODEL, trains_vision, params, stored)


def test_projector_gradient_long_video_is_zero() -> None:
    """Tests both settings; the original has no projector gradient from 512 frames on.

    See docs/reference_behaviour.md#training.
    """
    stored = stored_of(2)
    limited = dataclasses.replace(STAGE, projector_learns_below_frames=FRAMES)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(stage: StageConfig, num_frames: np.ndarray) -> Params:
        batch = {**stored, "num_frames": num_frames}
        params = tiny_params()

        def loss(projector: Params) -> jax.Array:
            tokens = visual_tokens(MODEL, stage, {**params, "projector": projector}, batch)
            return jnp.sum(jnp.sin(tokens))

        return jax.grad(loss)(params["projector"])

    frames = np.array([FRAMES, FRAMES])
    assert norm(gradient(limited, frames)) == 0 < norm(gradient(STAGE, frames))
    unlimited = norm(gradient(STAGE, frames - 1))
    assert norm(gradient(limited, frames - 1)) == pytest.approx(unlimited, rel=1e-6)


def test_visual_tokens_partial_clip_raises() -> None:
    batch = batch_of(1)
    batch["frames"] = batch["frames"][:, :6]
    with pytest.raises(ValueError, match=r"num_frames=6 is not a multiple of 4"):
        visual_tokens(MODEL, STAGE, tiny_params(), batch)
