"""The training step: losses, what learns, accumulation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest

from tests.tiny import TINY, tiny_params
from xcomp_jax.config import CompressionConfig, StageConfig
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.training.step import (
    init_state,
    loss_and_grads,
    text_loss,
    train_step,
    visual_tokens,
)

# Two distinct lengths: the number of stages decides how long a program compiles.
MODEL = XComp(dataclasses.replace(TINY, compression=CompressionConfig(max_distinct_lengths=2)))
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


# Batches of four everywhere: tests with the same stage share a program.
graded = jax.jit(loss_and_grads, static_argnums=(0, 1))
stepped = jax.jit(train_step, static_argnums=(0, 1))


@jax.jit
def losses(params: Params, batch: dict[str, Any]) -> dict[str, jax.Array]:
    """The loss under both ways of averaging."""
    visual = visual_tokens(MODEL, STAGE, params, batch)
    stages = (dataclasses.replace(STAGE, loss_average=way) for way in ("tokens", "examples"))
    return {s.loss_average: text_loss(MODEL, s, params, visual, batch) for s in stages}


def norm(tree: Params) -> float:
    return math.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(tree)))


def assert_same_gradient(got: Params, want: Params) -> None:
    difference = jax.tree.map(np.subtract, *jax.device_get((got, want)))
    assert norm(difference) < 1e-5 * norm(want)


def test_loss_is_the_mean_over_label_tokens_or_examples() -> None:
    params, batch = tiny_params(), batch_of(4)
    got = losses(params, batch)
    # Four times the same example: either mean is that example's own.
    single = [{name: value[[i] * 4] for name, value in batch.items()} for i in range(4)]
    each = np.array([losses(params, one)["tokens"] for one in single])
    # Every label has a predecessor: the first suffix token is predicted by the last video token.
    counts = (batch["suffix_labels"] != IGNORE).sum(axis=1)
    assert len(set(counts.tolist())) > 1, "the two averages must differ here"
    np.testing.assert_allclose(got["tokens"], (each * counts).sum() / counts.sum(), rtol=1e-5)
    np.testing.assert_allclose(got["examples"], each.mean(), rtol=1e-5)


def test_padding_labels_and_rows_do_not_count() -> None:
    params, batch = tiny_params(), batch_of(4)
    wider = {
        **batch,
        "suffix_ids": np.pad(batch["suffix_ids"], ((0, 0), (0, 7)), constant_values=3),
        "suffix_labels": np.pad(batch["suffix_labels"], ((0, 0), (0, 7)), constant_values=IGNORE),
    }
    got, want = losses(params, wider), losses(params, batch)
    np.testing.assert_allclose(got["tokens"], want["tokens"], rtol=1e-5)


def test_accumulation_averages_micro_batches() -> None:
    params, batch = tiny_params(), batch_of(8)
    accumulated = dataclasses.replace(STAGE, accumulate_steps=2)
    loss, grads = graded(MODEL, accumulated, params, batch)
    halves = [{name: value[i::2] for name, value in batch.items()} for i in range(2)]
    parts = jax.device_get([graded(MODEL, STAGE, params, half) for half in halves])
    np.testing.assert_allclose(loss, np.mean([part[0] for part in parts]), rtol=1e-5)
    assert_same_gradient(grads, jax.tree.map(lambda a, b: (a + b) / 2, parts[0][1], parts[1][1]))


def test_remat_changes_no_gradient() -> None:
    params, batch = tiny_params(), batch_of(4)
    remat = dataclasses.replace(STAGE, remat=True)
    plain, again = (graded(MODEL, stage, params, batch)[1] for stage in (STAGE, remat))
    assert_same_gradient(again, plain)


@pytest.mark.parametrize(
    "trainable", [("llm",), ("projector", "llm"), ("vision", "projector", "llm")]
)
def test_only_trainable_parts_move(trainable: tuple[str, ...]) -> None:
    stage = dataclasses.replace(STAGE, trainable=trainable, warmup_ratio=0.0)
    params = tiny_params()
    state, metrics = stepped(MODEL, stage, init_state(stage, params), batch_of(4))
    distance = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), *jax.device_get((state.params, params))
    )
    for part, distances in distance.items():
        moved = jax.tree.leaves(distances)
        if part in trainable:
            assert min(moved) > 0, part
        else:
            assert max(moved) == 0, part
    assert float(metrics["loss"]) > 0


def test_long_videos_can_leave_the_projector_alone() -> None:
    """The original gives the projector no gradient from 512 frames on; both readings."""
    params, batch = tiny_params(), batch_of(4)
    stage = dataclasses.replace(STAGE, projector_learns_below_frames=FRAMES)
    cut, free = (graded(MODEL, s, params, batch) for s in (stage, STAGE))
    np.testing.assert_allclose(cut[0], free[0], rtol=1e-6)
    assert norm(cut[1]["projector"]) == 0
    assert norm(free[1]["projector"]) > 0
    shorter = {**batch, "num_frames": batch["num_frames"] - 1}
    cut, free = (graded(MODEL, s, params, shorter) for s in (stage, STAGE))
    assert norm(cut[1]["projector"]) == norm(free[1]["projector"]) > 0


def test_frames_must_be_whole_clips() -> None:
    batch = batch_of(1)
    batch["frames"] = batch["frames"][:, :6]
    with pytest.raises(
        ValueError, match=r"num_frames=6 must be a multiple of vision\.clip_frames=4"
    ):
        visual_tokens(MODEL, STAGE, tiny_params(), batch)
