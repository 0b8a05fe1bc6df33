"""The training step: losses, what learns, accumulation."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tiny import TINY, tiny_params
from xcomp_jax.config import CompressionConfig, StageConfig
from xcomp_jax.models.xcomp import XComp
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.training.step import (
    init_state,
    loss_and_grads,
    text_loss,
    train_step,
    visual_tokens,
)

STAGE = StageConfig(
    name="test", num_steps=10, learning_rate=1e-3, batch_size=4, compression=CompressionConfig()
)
PREFIX, SUFFIX, FRAMES = 5, 9, 8


def batch_of(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random frames and text; suffixes of different length with as many labels."""
    rng = np.random.default_rng(seed)
    vocab, image = TINY.llm.vocab_size, TINY.vision.image_size
    suffix_len = rng.integers(3, SUFFIX + 1, size).astype(np.int32)
    suffix_ids = rng.integers(0, vocab, (size, SUFFIX)).astype(np.int32)
    labels = np.where(np.arange(SUFFIX) < suffix_len[:, None], suffix_ids, IGNORE)
    labels[:, 1] = IGNORE
    return {
        "frames": rng.integers(0, 256, (size, FRAMES, image, image, 3), np.uint8),
        "num_frames": np.full(size, FRAMES, np.int32),
        "prefix_ids": rng.integers(0, vocab, (size, PREFIX)).astype(np.int32),
        "prefix_len": np.full(size, PREFIX, np.int32),
        "prefix_labels": np.full((size, PREFIX), IGNORE, np.int32),
        "suffix_ids": suffix_ids,
        "suffix_len": suffix_len,
        "suffix_labels": labels.astype(np.int32),
    }


def loss_of(stage: StageConfig, batch: dict[str, Any]) -> float:
    model, params = XComp(TINY), tiny_params()
    visual = visual_tokens(model, stage, params, batch)
    return float(text_loss(model, stage, params, visual, batch))


def test_loss_is_the_mean_over_label_tokens_or_examples() -> None:
    batch = batch_of(3)
    single = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(3)]
    each = np.array([loss_of(STAGE, one) for one in single])
    # Every label has a predecessor: the first suffix token is predicted by the last video token.
    counts = np.array([(one["suffix_labels"] != IGNORE).sum() for one in single])
    assert len(set(counts.tolist())) > 1, "the two averages must differ here"
    np.testing.assert_allclose(
        loss_of(STAGE, batch), (each * counts).sum() / counts.sum(), rtol=1e-5
    )
    examples = dataclasses.replace(STAGE, loss_average="examples")
    np.testing.assert_allclose(loss_of(examples, batch), each.mean(), rtol=1e-5)


def test_padding_labels_and_rows_do_not_count() -> None:
    batch = batch_of(2)
    wider = {
        **batch,
        "suffix_ids": np.pad(batch["suffix_ids"], ((0, 0), (0, 7)), constant_values=3),
        "suffix_labels": np.pad(batch["suffix_labels"], ((0, 0), (0, 7)), constant_values=IGNORE),
    }
    np.testing.assert_allclose(loss_of(STAGE, wider), loss_of(STAGE, batch), rtol=1e-5)


def test_accumulation_averages_micro_batches() -> None:
    model, params, batch = XComp(TINY), tiny_params(), batch_of(4)
    accumulated = dataclasses.replace(STAGE, accumulate_steps=2)
    loss, grads = jax.jit(lambda p: loss_and_grads(model, accumulated, p, batch))(params)
    halves = [{name: value[i::2] for name, value in batch.items()} for i in range(2)]
    parts = [
        jax.jit(lambda p, b=half: loss_and_grads(model, STAGE, p, b))(params) for half in halves
    ]
    np.testing.assert_allclose(loss, np.mean([part[0] for part in parts]), rtol=1e-5)
    want = jax.tree.map(lambda a, b: (a + b) / 2, parts[0][1], parts[1][1])
    difference = optax.global_norm(jax.tree.map(jnp.subtract, grads, want))
    assert difference < 1e-5 * optax.global_norm(want)


def test_remat_changes_no_gradient() -> None:
    model, params, batch = XComp(TINY), tiny_params(), batch_of(2)
    remat = dataclasses.replace(STAGE, remat=True)
    plain, again = (
        jax.jit(lambda p, s=stage: loss_and_grads(model, s, p, batch)[1])(params)
        for stage in (STAGE, remat)
    )
    difference = optax.global_norm(jax.tree.map(jnp.subtract, plain, again))
    assert difference < 1e-5 * optax.global_norm(plain)


@pytest.mark.parametrize(
    "trainable", [("llm",), ("projector", "llm"), ("vision", "projector", "llm")]
)
def test_only_trainable_parts_move(trainable: tuple[str, ...]) -> None:
    stage = dataclasses.replace(STAGE, trainable=trainable, warmup_ratio=0.0)
    params = tiny_params()
    step = jax.jit(lambda s, b: train_step(XComp(TINY), stage, s, b))
    state, metrics = step(init_state(stage, params), batch_of(4))
    for part, before in params.items():
        moved = [
            float(jnp.abs(a - b).max())
            for a, b in zip(
                jax.tree.leaves(state.params[part]), jax.tree.leaves(before), strict=True
            )
        ]
        if part in trainable:
            assert min(moved) > 0, part
        else:
            assert max(moved) == 0, part
    assert float(metrics["loss"]) > 0


def test_long_videos_can_leave_the_projector_alone() -> None:
    """The original gives the projector no gradient from 512 frames on; both readings."""
    model, params, batch = XComp(TINY), tiny_params(), batch_of(4)
    stage = dataclasses.replace(STAGE, projector_learns_below_frames=FRAMES)
    cut, free = (
        jax.jit(lambda p, s=s: loss_and_grads(model, s, p, batch))(params) for s in (stage, STAGE)
    )
    np.testing.assert_allclose(cut[0], free[0], rtol=1e-6)
    assert optax.global_norm(cut[1]["projector"]) == 0
    assert optax.global_norm(free[1]["projector"]) > 0
    longer = dataclasses.replace(STAGE, projector_learns_below_frames=FRAMES + 1)
    _, grads = jax.jit(lambda p: loss_and_grads(model, longer, p, batch))(params)
    assert optax.global_norm(grads["projector"]) == optax.global_norm(free[1]["projector"])


def test_frames_must_be_whole_clips() -> None:
    batch = batch_of(1)
    batch["frames"] = batch["frames"][:, :6]
    with pytest.raises(
        ValueError, match=r"num_frames=6 must be a multiple of vision\.clip_frames=4"
    ):
        visual_tokens(XComp(TINY), STAGE, tiny_params(), batch)
