"""Epoch plans: buckets, weights, dropped rows and refused inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcomp_jax.data.mixture.buckets import EpochPlan, EpochPlanner, halvings

RNG = np.random.default_rng(0)
NUM_IMAGES, NUM_VIDEOS = 21, 83
FRAMES = np.concatenate([np.ones(NUM_IMAGES, int), RNG.integers(2, 65, NUM_VIDEOS) // 4 * 4 + 4])
SUFFIX = RNG.integers(1, 200, len(FRAMES))
BATCH = 4


def planner(**changes: Any) -> EpochPlanner:
    return EpochPlanner(
        **{
            "frames": FRAMES,
            "suffix": SUFFIX,
            "sets": np.arange(len(FRAMES)) % 2,
            "weights": (1.0, 1.0),
            "frame_limits": (16, 32, 68),
            "suffix_limits": (32, 208),
            "batch_size": BATCH,
            "seed": 5,
            **changes,
        }
    )


def counts(*plans: EpochPlan) -> np.ndarray:
    rows = np.concatenate([plan.rows.ravel() for plan in plans])
    return np.bincount(rows, minlength=len(FRAMES))


def test_plan_batches_fit_their_bucket_and_drop_few_rows() -> None:
    plan = planner().plan(0)
    assert plan.rows.shape == (NUM_IMAGES // BATCH + NUM_VIDEOS // BATCH, BATCH)
    for rows, bucket in zip(plan.rows, plan.buckets, strict=True):
        assert (FRAMES[rows] <= bucket.frames).all()
        assert (SUFFIX[rows] <= bucket.suffix).all()
        assert set(FRAMES[rows] == 1) == {bucket.frames == 1}, "images and videos share no batch"
    assert counts(plan).max() == 1
    assert (counts(plan) == 0).sum() == NUM_IMAGES % BATCH + NUM_VIDEOS % BATCH
    # A single bucket would pad to nearly twice the frames.
    padded = sum(bucket.frames for bucket in plan.buckets if bucket.frames > 1) * BATCH
    assert padded < 1.45 * FRAMES[plan.rows][FRAMES[plan.rows] > 1].sum()
    single = planner(frame_limits=(68,)).plan(0)
    assert sum(b.frames for b in single.buckets if b.frames > 1) * BATCH > 1.3 * padded


def test_plan_epochs_differ_and_are_independent() -> None:
    epochs = [planner().plan(epoch) for epoch in (0, 1, 2)]
    assert len({plan.rows.tobytes() for plan in epochs}) == 3
    assert (planner().plan(2).rows == epochs[2].rows).all()
    assert not np.array_equal(planner(seed=6).plan(0).rows, epochs[0].rows)
    dropped = [tuple(np.flatnonzero(counts(plan) == 0)) for plan in epochs]
    assert len(set(dropped)) == 3, "every epoch drops other rows"


def test_plan_weights_are_passes_per_epoch() -> None:
    weighted = planner(weights=(2.0, 0.5), batch_size=1)
    plans = [weighted.plan(epoch) for epoch in range(4)]
    assert {len(plan.rows) for plan in plans} == {weighted.batches_per_epoch}
    first = np.arange(len(FRAMES)) % 2 == 0
    assert (counts(*plans)[first] == 8).all(), "two passes per epoch"
    # Half a pass per epoch is 26 of 52 rows; no row repeats before all have been read.
    halves = counts(*plans)[~first]
    assert set(halves.tolist()) <= {1, 2, 3}
    assert set(counts(*plans[:2])[~first].tolist()) <= {0, 1, 2}
    assert counts(plans[0])[~first].max() == 1


def test_epoch_planner_impossible_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"largest bucket of \(1, 16\)"):
        planner(frame_limits=(16,))
    with pytest.raises(ValueError, match="batch_size=100 is more than the 83 videos and the 21"):
        planner(batch_size=100)
    no_rows = np.zeros(0, int)
    with pytest.raises(ValueError, match="batch_size=4 is more than the 0 videos and the 0 images"):
        planner(frames=no_rows, suffix=no_rows, sets=no_rows)


def test_epoch_planner_too_few_images_for_a_batch_are_refused() -> None:
    batch_size = NUM_IMAGES + 1
    with pytest.raises(ValueError, match=f"batch_size={batch_size} is more than the 21 images of"):
        planner(batch_size=batch_size)
    doubled = planner(batch_size=batch_size, weights=(2, 2))
    assert doubled.batches_per_epoch == 42 // batch_size + 166 // batch_size
    only_videos = planner(
        frames=FRAMES[NUM_IMAGES:],
        suffix=SUFFIX[NUM_IMAGES:],
        sets=np.zeros(NUM_VIDEOS, int),
        batch_size=batch_size,
    )
    assert only_videos.batches_per_epoch == 83 // batch_size


def test_halvings_are_rounded_up_to_multiples() -> None:
    assert halvings(1024, 4, multiple=8) == (128, 256, 512, 1024)
    assert halvings(12, 4, multiple=4) == (4, 8, 12)
    assert halvings(4, 4, multiple=4) == (4,)
