"""Parity of `tome`: token merging alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tests.parity.cases import assert_parity
from tests.parity.merging_ties import Step, merged_clip, other_merges
from xcomp_jax.models import tome
from xcomp_jax.models.tome import merge_steps, merge_tokens
from xcomp_jax.ops.target import Target

ATOL, GAP_ATOL = 1e-5, 1e-6

merged_tokens = jax.jit(merge_tokens, static_argnums=(1, 2))


@pytest.mark.golden("tome")
@pytest.mark.parametrize("platform", ["cpu", "tpu"])  # the form on accelerators, computed here
def test_merge_tokens_recorded_clips_equal(
    case, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tome, "current_target", lambda: Target(platform, ""))
    merged_tokens.clear_cache()
    recorded = {entry["name"]: entry for entry in case.meta["cases"]}
    inputs = case.io.matching(r".+__x")
    assert {name.removesuffix("__x") for name in inputs} == set(recorded)
    for name, entry in recorded.items():
        x = case.io[f"{name}__x"]
        merged, size = merged_tokens(x, entry["target"], entry["heads"])
        assert list(merge_steps(x.shape[1], entry["target"])) == entry["r_merge_list"], name
        np.testing.assert_array_equal(size, case.io[f"{name}__size"])
        # Control: sources and destinations exchanged by shifting every token one place.
        shifted, _ = merged_tokens(np.roll(x, 1, axis=1), entry["target"], entry["heads"])
        assert_parity(merged, case.io[f"{name}__merged"], atol=ATOL, control=shifted)


@pytest.mark.golden("tome")
def test_merging_ties_recorded_gaps_found(case) -> None:
    for entry in case.meta["cases"]:
        tokens = case.io[f"{entry['name']}__x"]
        gaps = [gaps_of(x, entry["heads"], entry["target"]) for x in tokens]
        for number, recorded in enumerate(entry["per_step"]):
            best_gap, order_gap = np.min([clip[number] for clip in gaps], axis=0)
            np.testing.assert_allclose(best_gap, recorded["argmax_gap"], atol=GAP_ATOL)
            if recorded["order_gap"] is not None:
                np.testing.assert_allclose(order_gap, recorded["order_gap"], atol=GAP_ATOL)


def gaps_of(x: np.ndarray, heads: int, target: int) -> list[tuple[float, float]]:
    """Smallest gap between best and second match, and between neighbours, in every step."""
    gaps, size = [], np.ones(len(x), np.float32)
    for merged in merge_steps(len(x), target):
        step = Step.of(x, heads, noise=0.0)
        gaps.append((step.best_gap.min(), step.order_gap.min()))
        x, size = merged_clip(x, size, step.best, step.order, merged)
    return gaps


@pytest.mark.golden("tome")
def test_other_merges_noise_beyond_gap_found(case) -> None:
    entry = min(case.meta["cases"], key=lambda entry: entry["p"])
    x = case.io[f"{entry['name']}__x"]
    default, _ = merge_tokens(x, entry["target"], entry["heads"])
    assert not other_merges(x[0], entry["target"], entry["heads"], noise=0.0)
    others = other_merges(x[0], entry["target"], entry["heads"], noise=1e-2)
    assert others
    ratios = [ratio for ratio, _ in others]
    assert ratios == sorted(ratios)
    assert all(ratio <= 1 for ratio in ratios)
    assert all(np.abs(other - default[0]).max() > ATOL for _, other in others)
