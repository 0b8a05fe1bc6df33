"""The training step: losses, what learns and how fast, accumulation, adapters, stored features."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.parity.cases import assert_parity
from tests.tiny import TINY, tiny_params
from xcomp_jax.config import CompressionConfig, ConfigError, LoRAConfig, PartRates, StageConfig
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.training.encoding import merged_features, visual_tokens
from xcomp_jax.training.lora import merged
from xcomp_jax.training.loss import MIN_CHUNK, VOCAB_CHUNKS, cross_entropy
from xcomp_jax.training.step import init_state, loss_and_grads, text_loss, train_step

# Two distinct lengths: the number of stages decides how long a program compiles.
MODEL = XComp(dataclasses.replace(TINY, compression=CompressionConfig(max_distinct_lengths=2)))
STAGE = StageConfig(
    name="test", num_steps=10, learning_rate=1e-3, batch_size=4, compression=CompressionConfig()
)
PREFIX, SUFFIX, FRAMES = 5, 9, 8


def batch_of(size: int, seed: int = 0, frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Random frames and text; suffixes of different length with as many labels."""
    rng = np.random.default_rng(seed)
    vocab, image = TINY.llm.vocab_size, TINY.vision.image_size
    suffix_len = rng.integers(3, SUFFIX + 1, size).astype(np.int32)
    suffix_ids = rng.integers(0, vocab, (size, SUFFIX)).astype(np.int32)
    labels = np.where(np.arange(SUFFIX) < suffix_len[:, None], suffix_ids, IGNORE)
    labels[:, 1] = IGNORE
    return {
        "frames": rng.integers(0, 256, (size, frames, image, image, 3), np.uint8),
        "num_frames": np.full(size, frames, np.int32),
        "prefix_ids": rng.integers(0, vocab, (size, PREFIX)).astype(np.int32),
        "prefix_len": np.full(size, PREFIX, np.int32),
        "prefix_labels": np.full((size, PREFIX), IGNORE, np.int32),
        "suffix_ids": suffix_ids,
        "suffix_len": suffix_len,
        "suffix_labels": labels.astype(np.int32),
    }


def stored_of(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The same without an encoder to compile: random features instead of frames."""
    batch = batch_of(size, seed)
    shape = (size, FRAMES * TINY.projector.tokens_per_frame, TINY.vision.width)
    batch["merged_features"] = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    del batch["frames"]
    return batch


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


def assert_same_gradient(got: Params, want: Params, rtol: float = 1e-5) -> None:
    difference = jax.tree.map(np.subtract, *jax.device_get((got, want)))
    assert norm(difference) < rtol * norm(want)


def test_loss_is_the_mean_over_label_tokens_or_examples() -> None:
    params, batch = tiny_params(), stored_of(4)
    got = losses(params, batch)
    # Four times the same example: either mean is that example's own.
    single = [{name: value[[i] * 4] for name, value in batch.items()} for i in range(4)]
    each = np.array([losses(params, one)["tokens"] for one in single])
    # Every label has a predecessor: the first suffix token is predicted by the last video token.
    counts = (batch["suffix_labels"] != IGNORE).sum(axis=1)
    assert len(set(counts.tolist())) > 1, "the two averages must differ here"
    np.testing.assert_allclose(got["tokens"], (each * counts).sum() / counts.sum(), rtol=1e-5)
    np.testing.assert_allclose(got["examples"], each.mean(), rtol=1e-5)
    # One that could not be read has no labels: it does not make the mean smaller.
    for field in ("prefix_labels", "suffix_labels"):
        batch[field][3] = IGNORE
    got = losses(params, batch)
    np.testing.assert_allclose(
        got["tokens"], (each * counts)[:3].sum() / counts[:3].sum(), rtol=1e-5
    )
    np.testing.assert_allclose(got["examples"], each[:3].mean(), rtol=1e-5)


def test_padding_labels_and_rows_do_not_count() -> None:
    params, batch = tiny_params(), stored_of(4)
    wider = {
        **batch,
        "suffix_ids": np.pad(batch["suffix_ids"], ((0, 0), (0, 7)), constant_values=3),
        "suffix_labels": np.pad(batch["suffix_labels"], ((0, 0), (0, 7)), constant_values=IGNORE),
    }
    got, want = losses(params, wider), losses(params, batch)
    np.testing.assert_allclose(got["tokens"], want["tokens"], rtol=1e-5)


def test_vocabulary_in_chunks_gives_the_plain_loss() -> None:
    rng = np.random.default_rng(0)
    vocab = MIN_CHUNK * VOCAB_CHUNKS
    rows, table = (
        jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 5, 8), (vocab, 8))
    )
    targets = jnp.asarray(rng.integers(0, vocab, (2, 5)))
    weights = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)

    def plain(rows: jax.Array, table: jax.Array, targets: jax.Array) -> jax.Array:
        logits = 3 * rows @ table.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    def chunked(rows: jax.Array, table: jax.Array, targets: jax.Array) -> jax.Array:
        return cross_entropy(3 * rows, table, targets)

    def everything(loss: Any, targets: jax.Array) -> list[jax.Array]:
        out, back = jax.vjp(lambda r, t: loss(r, t, targets), rows, table)
        return [out, *back(weights)]

    wrong = everything(plain, (targets + 1) % vocab)
    for got, want, control in zip(
        everything(chunked, targets), everything(plain, targets), wrong, strict=True
    ):
        assert_parity(got, want, atol=2e-5, control=control)


def test_no_program_holds_all_logits_of_a_row() -> None:
    shapes = [jax.ShapeDtypeStruct(size, jnp.float32) for size in ((1, 300, 8), (16384, 8))]
    targets = jax.ShapeDtypeStruct((1, 300), jnp.int32)
    grad = jax.jit(jax.grad(lambda *x: cross_entropy(*x).sum(), argnums=(0, 1)))
    used = grad.lower(*shapes, targets).compile().memory_analysis().temp_size_in_bytes
    assert used < 300 * 16384 * 4 / 2


def test_accumulation_with_remat_averages_micro_batches() -> None:
    params, batch = tiny_params(), stored_of(8)
    accumulated = dataclasses.replace(STAGE, batch_size=8, accumulate_steps=2, remat=True)
    loss, grads = graded(MODEL, accumulated, params, batch)
    halves = [{name: value[i::2] for name, value in batch.items()} for i in range(2)]
    parts = jax.device_get([graded(MODEL, STAGE, params, half) for half in halves])
    np.testing.assert_allclose(loss, np.mean([part[0] for part in parts]), rtol=1e-5)
    assert_same_gradient(grads, jax.tree.map(lambda a, b: (a + b) / 2, parts[0][1], parts[1][1]))


def test_a_mean_over_examples_does_not_depend_on_the_cut() -> None:
    """Not even with an example that could not be read, which has no labels."""
    params, batch = tiny_params(), stored_of(8)
    for field in ("prefix_labels", "suffix_labels"):
        batch[field][3] = IGNORE
    whole = dataclasses.replace(STAGE, batch_size=8, loss_average="examples")
    parts = dataclasses.replace(whole, accumulate_steps=4)
    (loss, grads), (want, want_grads) = (
        graded(MODEL, stage, params, batch) for stage in (parts, whole)
    )
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    assert_same_gradient(grads, want_grads)
    by_tokens = dataclasses.replace(parts, loss_average="tokens")
    control, _ = graded(MODEL, by_tokens, params, batch)
    assert abs(control - want) > 1e-3


def test_parts_move_at_their_own_rate() -> None:
    stage = dataclasses.replace(
        STAGE,
        trainable=("vision", "projector", "llm"),
        learning_rates=PartRates(vision=2e-4),
        warmup_ratio=0.0,
    )
    params, batch = tiny_params(), batch_of(4)
    state, metrics = stepped(MODEL, stage, init_state(stage, params), batch)
    far = jax.tree.map(lambda a, b: np.abs(a - b).max(), *jax.device_get((state.params, params)))
    distances = {part: jax.tree.leaves(tree) for part, tree in far.items()}
    # Adam's first step is the rate, wherever the gradient is far above eps.
    for part, rate in (("vision", 2e-4), ("projector", 1e-3), ("llm", 1e-3)):
        assert min(distances[part]) > 0, part
        assert max(distances[part]) == pytest.approx(rate, rel=1e-3), part
    assert metrics["tokens"] == 4 * (PREFIX + FRAMES * 4) + batch["suffix_len"].sum()
    assert metrics["label_tokens"] == (batch["suffix_labels"] != IGNORE).sum()
    assert metrics["non_finite"] == 0
    broken = jax.tree.map(lambda x: x * np.nan, tiny_params())
    assert stepped(MODEL, stage, init_state(stage, broken), batch)[1]["non_finite"] == 1


def test_adapters_begin_at_the_base_and_merge_into_it() -> None:
    # Without momentum and clipping, Adam's first moment is the gradient.
    stage = dataclasses.replace(
        STAGE,
        lora=LoRAConfig(rank=2, alpha=6.0),
        warmup_ratio=0.0,
        beta1=0.0,
        max_grad_norm=1e9,
    )
    begin = init_state(stage, tiny_params())
    base, _ = graded(MODEL, STAGE, tiny_params(), stored_of(4))
    state, metrics = stepped(MODEL, stage, begin, stored_of(4))
    np.testing.assert_allclose(metrics["loss"], base, rtol=1e-6)
    assert set(state.opt_state[1][0].mu) == {"projector", "lora"}
    for part in ("vision", "llm"):
        jax.tree.map(np.testing.assert_array_equal, state.params[part], begin.params[part])
    assert min(jax.tree.leaves(jax.tree.map(lambda x: np.abs(x).max(), state.params["lora"]))) > 0

    rng = np.random.default_rng(0)
    adapters = jax.tree.map(
        lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), begin.params["lora"]
    )
    params = {**begin.params, "lora": adapters}
    state, metrics = stepped(MODEL, stage, dataclasses.replace(begin, params=params), stored_of(4))
    grads = state.opt_state[1][0].mu
    whole, full = graded(MODEL, STAGE, merged(stage, params), stored_of(4))
    assert_parity(metrics["loss"], whole, atol=2e-5, control=base)
    assert_same_gradient(grads["projector"], full["projector"], 1e-4)
    # d a = d kernel b' and d b = a' d kernel, both times alpha / rank.
    for block, name in (("self_attn", "k_proj"), ("mlp", "down_proj")):
        kernel, pair = full["llm"]["layers"][block][name]["kernel"], adapters[block][name]
        want = {
            "a": 3.0 * kernel @ jnp.swapaxes(pair["b"], 1, 2),
            "b": 3.0 * jnp.swapaxes(pair["a"], 1, 2) @ kernel,
        }
        assert_same_gradient(grads["lora"][block][name], want, 1e-4)


def test_state_stays_float32_whatever_is_computed_in() -> None:
    model = XComp(dataclasses.replace(MODEL.config, dtype="bfloat16"))
    stage = dataclasses.replace(STAGE, lora=LoRAConfig(), trainable=("vision", "llm"))
    state = jax.eval_shape(lambda: init_state(stage, tiny_params()))
    step = functools.partial(train_step, model, stage)
    after, metrics = jax.eval_shape(step, state, batch_of(4))
    assert after == state
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves((after, metrics))}
    assert kinds == {"float32", "int32"}
    visual = jax.eval_shape(lambda: visual_tokens(model, stage, tiny_params(), batch_of(4)))
    assert visual.dtype == jnp.bfloat16, "control: the computation is not in float32"


def test_stored_features_stand_in_for_frames() -> None:
    params, batch = tiny_params(), batch_of(4)
    features = jax.jit(lambda p, f: merged_features(MODEL, STAGE, p, f))(params, batch["frames"])
    assert features.shape == (4, FRAMES * 4, TINY.vision.width)
    stored = {**batch, "merged_features": np.asarray(features)}
    del stored["frames"]
    tokens = jax.jit(lambda p, b: visual_tokens(MODEL, STAGE, p, b))
    got, want = tokens(params, stored), tokens(params, batch)
    control = tokens(params, {**stored, "merged_features": features[:, ::-1]})
    assert_parity(got, want, atol=1e-6, control=control)
    learns = dataclasses.replace(STAGE, trainable=("vision", "llm"))
    with pytest.raises(ConfigError, match="take 'vision' out, or read videos"):
        visual_tokens(MODEL, learns, params, stored)


def test_long_videos_can_leave_the_projector_alone() -> None:
    """The original gives the projector no gradient from 512 frames on; both readings."""
    stored = stored_of(2)
    cut = dataclasses.replace(STAGE, projector_learns_below_frames=FRAMES)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(stage: StageConfig, num_frames: np.ndarray) -> Params:
        batch = {**stored, "num_frames": num_frames}
        params = tiny_params()

        def loss(projector: Params) -> jax.Array:
            tokens = visual_tokens(MODEL, stage, {**params, "projector": projector}, batch)
            return jnp.sum(jnp.sin(tokens))

        return jax.grad(loss)(params["projector"])

    frames = np.array([FRAMES, FRAMES])
    assert norm(gradient(cut, frames)) == 0 < norm(gradient(STAGE, frames))
    free = norm(gradient(STAGE, frames - 1))
    assert norm(gradient(cut, frames - 1)) == pytest.approx(free, rel=1e-6)


def test_frames_must_be_whole_clips() -> None:
    batch = batch_of(1)
    batch["frames"] = batch["frames"][:, :6]
    with pytest.raises(
        ValueError, match=r"num_frames=6 must be a multiple of vision\.clip_frames=4"
    ):
        visual_tokens(MODEL, STAGE, tiny_params(), batch)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rates": PartRates(vision=2e-6)}, r"names \['vision'\], which trainable="),
        ({"learning_rate": -1.0}, "must not be negative"),
        ({"lora": LoRAConfig(), "trainable": ("projector",)}, "add 'llm', or remove lora"),
    ],
)
def test_stages_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(STAGE, **wrong)
