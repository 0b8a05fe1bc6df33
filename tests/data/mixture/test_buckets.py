"""Batches of an epoch: one bucket each, every row once, weights, left-over rows."""

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


def test_every_batch_fits_its_bucket_and_few_rows_are_left_out() -> None:
    plan = planner().plan(0)
    assert plan.rows.shape == (NUM_IMAGES // BATCH + NUM_VIDEOS // BATCH, BATCH)
    for rows, bucket in zip(plan.rows, plan.buckets, strict=True):
        assert (FRAMES[rows] <= bucket.frames).all()
        assert (SUFFIX[rows] <= bucket.suffix).all()
        assert set(FRAMES[rows] == 1) == {bucket.frames == 1}, "images among themselves"
    assert counts(plan).max() == 1
    assert (counts(plan) == 0).sum() == NUM_IMAGES % BATCH + NUM_VIDEOS % BATCH
    # Padding is what buckets are for: one bucket for all would nearly double the frames.
    padded = sum(bucket.frames for bucket in plan.buckets if bucket.frames > 1) * BATCH
    assert padded < 1.45 * FRAMES[plan.rows][FRAMES[plan.rows] > 1].sum()
    alone = planner(frame_limits=(68,)).plan(0)
    assert sum(b.frames for b in alone.buckets if b.frames > 1) * BATCH > 1.3 * padded


def test_epochs_differ_and_are_known_without_those_before() -> None:
    epochs = [planner().plan(epoch) for epoch in (0, 1, 2)]
    assert len({plan.rows.tobytes() for plan in epochs}) == 3
    assert (planner().plan(2).rows == epochs[2].rows).all()
    assert not np.array_equal(planner(seed=6).plan(0).rows, epochs[0].rows)
    left_out = [tuple(np.flatnonzero(counts(plan) == 0)) for plan in epochs]
    assert len(set(left_out)) == 3, "not always the same rows"


def test_weights_count_passes() -> None:
    weighted = planner(weights=(2.0, 0.5), batch_size=1)
    plans = [weighted.plan(epoch) for epoch in range(4)]
    assert {len(plan.rows) for plan in plans} == {weighted.batches_per_epoch}
    first = np.arange(len(FRAMES)) % 2 == 0
    assert (counts(*plans)[first] == 8).all(), "twice in each epoch"
    # Half a pass an epoch: 26 or 25 of 52 rows, and nothing comes back before all have been seen.
    halves = counts(*plans)[~first]
    assert set(halves.tolist()) <= {1, 2, 3}
    assert set(counts(*plans[:2])[~first].tolist()) <= {0, 1, 2}
    assert counts(plans[0])[~first].max() == 1


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"largest bucket of \(1, 16\)"):
        planner(frame_limits=(16,))
    with pytest.raises(ValueError, match="batch_size=100 is more than the 83 videos and the 21"):
        planner(batch_size=100)
    nothing = np.zeros(0, int)
    with pytest.raises(ValueError, match="batch_size=4 is more than the 0 videos and the 0 images"):
        planner(frames=nothing, suffix=nothing, sets=nothing)


def test_images_too_few_for_a_batch_are_not_left_out_for_ever() -> None:
    more = NUM_IMAGES + 1
    with pytest.raises(ValueError, match=f"batch_size={more} is more than the 21 images of"):
        planner(batch_size=more)
    assert planner(batch_size=more, weights=(2, 2)).batches_per_epoch == 42 // more + 166 // more
    only_videos = {"frames": FRAMES[NUM_IMAGES:], "suffix": SUFFIX[NUM_IMAGES:]}
    sets = np.zeros(NUM_VIDEOS, int)
    assert planner(**only_videos, sets=sets, batch_size=more).batches_per_epoch == 83 // more


def test_halvings() -> None:
    assert halvings(1024, 4, multiple=8) == (128, 256, 512, 1024)
    assert halvings(12, 4, multiple=4) == (4, 8, 12)
    assert halvings(4, 4, multiple=4) == (4,)
