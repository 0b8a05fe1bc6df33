"""Parity of `train_steps`: loss, gradients and optimizer steps of the original."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import numpy as np
import optax
import pytest

from tests.parity.cases import Case, assert_parity
from tests.parity.lm_run import NOISE_FACTOR
from tests.parity.recorded_model import PLACEHOLDER, recorded_model
from xcomp_jax.config import StageConfig
from xcomp_jax.convert.map import rules_for
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.text.prompts import IGNORE
from xcomp_jax.training import loss
from xcomp_jax.training.optimizer import learning_rate, make_optimizer, warmup_steps
from xcomp_jax.training.step import text_loss

LOSS_RTOL, NORM_RTOL, STEP_NORM_RTOL = 1e-5, 2e-5, 2e-4


def stage_of(case: Case, **changes: Any) -> StageConfig:
    recipe = case.meta["optimizer"]
    return StageConfig(
        name="recorded",
        num_steps=recipe["n_steps"],
        learning_rate=recipe["lr"],
        beta1=recipe["betas"][0],
        beta2=recipe["betas"][1],
        eps=recipe["eps"],
        weight_decay=recipe["weight_decay"],
        warmup_ratio=recipe["warmup_ratio"],
        max_grad_norm=recipe["max_grad_norm"],
        **changes,
    )


Rows = dict[str, list[np.ndarray]]


def text_of(case: Case, name: str) -> Rows:
    """Splits ids and labels of each example at the placeholder, without padding."""
    ids, labels = case.io[f"{name}__input_ids"], case.io[f"{name}__labels"]
    real = case.io[f"{name}__attention_mask"].astype(bool)
    rows: Rows = {key: [] for key in ("prefix_ids", "prefix_labels", "suffix_ids", "suffix_labels")}
    for row_ids, row_labels, mask in zip(ids, labels, real, strict=True):
        row_ids, row_labels = row_ids[mask], row_labels[mask]
        (place,) = np.flatnonzero(row_ids == PLACEHOLDER)
        rows["prefix_ids"].append(row_ids[:place])
        rows["prefix_labels"].append(row_labels[:place])
        rows["suffix_ids"].append(row_ids[place + 1 :])
        rows["suffix_labels"].append(row_labels[place + 1 :])
    return rows


def pixels_of(case: Case, name: str) -> list[np.ndarray]:
    """Returns the recorded frames [F, X, X, 3] of each example."""
    stored = case.io.matching(rf"{name}__pixel_values_int\d+_times_\d+_example\d+")
    videos = {}
    for key, value in stored.items():
        scale, example = re.search(r"times_(\d+)_example(\d+)", key).groups()
        videos[int(example)] = np.moveaxis(value.astype(np.float32) / int(scale), 1, -1)
    return [videos[i] for i in range(len(videos))]


@functools.lru_cache(maxsize=2)
def batches_of(case: Case, clip_frames: int) -> list[dict[str, Any]]:
    """Returns the recorded batches with the fields of `data.pipeline`, all of one shape.

    Shorter texts are padded, and shorter videos padded with black clips.
    """
    names = [f"batch{i}" for i in range(len(case.io.matching(r"batch\d+__input_ids")))]
    texts = [text_of(case, name) for name in names]
    videos = [pixels_of(case, name) for name in names]

    def padded(key: str, rows: Rows) -> np.ndarray:
        longest = max(len(row) for text in texts for row in text[key])
        fill = IGNORE if key.endswith("labels") else 0
        padded = [np.pad(r, (0, longest - len(r)), constant_values=fill) for r in rows[key]]
        return np.stack(padded).astype(np.int32)

    frames = max(len(video) for batch in videos for video in batch)
    batches = []
    for rows, examples in zip(texts, videos, strict=True):
        batch: dict[str, Any] = {key: padded(key, rows) for key in rows}
        for part in ("prefix", "suffix"):
            batch[f"{part}_len"] = np.array([len(r) for r in rows[f"{part}_ids"]], np.int32)
        batch["num_frames"] = np.array([len(video) for video in examples], np.int32)
        black = [np.zeros((frames - len(video), *video.shape[1:]), "f4") for video in examples]
        filled = np.stack([np.concatenate(pair) for pair in zip(examples, black, strict=True)])
        clips = (len(examples), frames // clip_frames, clip_frames)
        batch["pixels"] = filled.reshape(*clips, *filled.shape[2:])
        batches.append(batch)
    return batches


@functools.partial(jax.jit, static_argnames=("model", "stage"))
def loss_and_grads(
    model: XComp, stage: StageConfig, params: Params, batch: dict[str, Any]
) -> tuple[jax.Array, Params, jax.Array]:
    """Computes the loss, the gradients of the trainable parts and their norm."""

    def loss_of(trainable: Params) -> jax.Array:
        whole = {**params, **trainable}
        clips = batch["pixels"].reshape(-1, *batch["pixels"].shape[2:])
        visual = model.apply({"params": whole}, clips, method="encode")
        visual = visual.reshape(len(batch["num_frames"]), -1, visual.shape[-1])
        return text_loss(model, stage, whole, visual, batch)

    value, grads = jax.value_and_grad(loss_of)({name: params[name] for name in stage.trainable})
    return value, grads, optax.tree.norm(grads)


def named(model: XComp, tree: Params) -> dict[str, np.ndarray]:
    """Converts the trainable parts to the original's tensor names and layouts."""
    flat = {
        "/".join(str(key.key) for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    result = {}
    for rule in rules_for(model.config):
        if rule.target not in flat:
            continue
        leaf = flat[rule.target]
        for block in range(len(leaf)) if rule.stacked else [0]:
            value = leaf[block] if rule.stacked else leaf
            result[rule.source_name(block)] = rule.layout.to_source(value)
    return result


@pytest.mark.parametrize(
    "min_chunk",
    [
        pytest.param(loss.MIN_CHUNK, id="whole", marks=pytest.mark.slow),
        pytest.param(1, id="chunks"),
    ],
)
@pytest.mark.golden("train_steps")
def test_loss_recorded_batch_equal_gradients(
    case, min_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computes the loss over the small vocabulary at once, and in chunks like a large one."""
    monkeypatch.setattr(loss, "MIN_CHUNK", min_chunk)
    loss_and_grads.clear_cache()
    model, params = recorded_model(case)
    stage = stage_of(case)
    batch = batches_of(case, model.config.vision.clip_frames)[0]
    value, grads, norm = loss_and_grads(model, stage, params, batch)
    # Control: positions after the first text off by one.
    shifted = {**batch, "prefix_len": batch["prefix_len"] + 1}
    wrong_value, wrong_grads, wrong_norm = loss_and_grads(model, stage, params, shifted)
    want = case.meta["batch0"]
    assert_parity(value, want["loss"], atol=0, rtol=LOSS_RTOL, control=wrong_value)
    assert_parity(norm, want["total_grad_norm"], atol=0, rtol=NORM_RTOL, control=wrong_norm)
    # Relative to the largest entry of each tensor, as the recording measures its own noise.
    grad_rtol = NOISE_FACTOR * want["max_relative_grad_difference_vs_float64"]
    ours, wrong = named(model, grads), named(model, wrong_grads)
    for key, expected in case.io.matching(r"grad__.+").items():
        name = key.removeprefix("grad__")
        scale = float(np.abs(expected).max())
        assert_parity(ours[name], expected, atol=grad_rtol * scale, control=wrong[name])


@pytest.mark.golden("train_steps")
def test_optimizer_recorded_steps_equal(case) -> None:
    model, params = recorded_model(case)
    stage = stage_of(case)
    log = case.meta["optimizer"]["log"]
    assert warmup_steps(stage) == case.meta["optimizer"]["warmup_steps"]
    optimizer = make_optimizer(stage)
    trainable = {name: params[name] for name in stage.trainable}
    state = optimizer.init(trainable)
    update = jax.jit(optimizer.update)
    for number, entry in enumerate(log):
        batch = batches_of(case, model.config.vision.clip_frames)[entry["batch"]]
        value, grads, norm = loss_and_grads(model, stage, {**params, **trainable}, batch)
        np.testing.assert_allclose(value, entry["loss"], rtol=LOSS_RTOL)
        np.testing.assert_allclose(norm, entry["grad_norm_before_clip"], rtol=STEP_NORM_RTOL)
        np.testing.assert_allclose(learning_rate(stage, number), entry["lr_used"], rtol=1e-6)
        updates, state = update(grads, state, trainable)
        trainable = optax.apply_updates(trainable, updates)
        after = named(model, trainable)
        before = named(model, {name: params[name] for name in stage.trainable})
        # Adam divides by the size of the gradient, so that rounding of a tiny gradient can change
        # a whole step. The recorded float32-against-float64 distance bounds that.
        for key, want in case.io.matching(r"param_after_step\d+__.+").items():
            step, name = re.fullmatch(r"param_after_step(\d+)__(.+)", key).groups()
            if int(step) != number + 1:
                continue
            noise = case.meta["optimizer"]["final_param_max_abs_diff_vs_float64"][name]
            if entry["lr_used"] == 0 and number == 0:
                np.testing.assert_array_equal(after[name], want)
            else:
                assert_parity(after[name], want, atol=4 * noise + 1e-7, control=before[name])


@pytest.mark.golden("train_steps")
def test_learning_rate_published_recipe_equal(case) -> None:
    stage = dataclasses.replace(stage_of(case), num_steps=2247, learning_rate=1e-5)
    assert warmup_steps(stage) == 68
    steps = np.arange(2247)
    done = (steps - 68) / (2247 - 68)
    want = 1e-5 * np.where(steps < 68, steps / 68, (1 + np.cos(np.pi * done)) / 2)
    assert want[0] == 0
    assert want[68] == want.max() == 1e-5
    longer = 1e-5 * np.where(steps < 68, steps / 68, (1 + np.cos(np.pi * steps / 2247)) / 2)
    ours = jax.vmap(lambda step: learning_rate(stage, step))(steps)
    assert_parity(ours, want, atol=1e-11, control=longer)
