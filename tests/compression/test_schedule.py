"""Tests of schedules: literal tuples, and properties of all schedules."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.schedule import (
    Drop,
    coarsen,
    cosine_token_counts,
    plan_layer_groups,
    tokens_per_frame_by_layer,
    uniform_survivors,
)
from xcomp_jax.config import CompressionConfig, ConfigError


def test_cosine_28_layers_equals_published() -> None:
    assert cosine_token_counts(28, 16) == (
        *(16, 16, 16, 15, 15, 14, 14, 13, 12, 12, 11, 10, 9, 9),
        *(8, 7, 6, 5, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1),
    )


@pytest.mark.parametrize(
    ("layers", "places"),
    [
        (24, [2, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 19, 21]),
        (32, [3, 6, 8, 10, 11, 13, 14, 16, 17, 18, 20, 21, 23, 25, 28]),
    ],
)
def test_cosine_other_depths_equal_original(layers: int, places: list[int]) -> None:
    layer_groups = plan_layer_groups(CompressionConfig(), num_layers=layers, tokens_per_frame=16)
    assert np.cumsum([stage.num_layers for stage in layer_groups])[:-1].tolist() == places


@given(layers=st.integers(1, 48), tokens=st.integers(1, 40))
def test_cosine_any_depth_descends_to_one(layers: int, tokens: int) -> None:
    counts = cosine_token_counts(layers, tokens)
    assert len(counts) == layers
    assert counts[0] == tokens
    assert all(a >= b >= 1 for a, b in itertools.pairwise(counts))
    if layers > 1:
        assert counts[-1] == 1


@given(st.lists(st.integers(1, 20), min_size=2, max_size=9), st.integers(2, 9))
def test_coarsen_small_cases_cheapest(values: list[int], most: int) -> None:
    counts = tuple(sorted(values, reverse=True))
    coarse = coarsen(counts, most)
    assert len(set(coarse)) <= most
    assert all(c >= n for c, n in zip(coarse, counts, strict=True))
    assert (coarse[0], coarse[-1]) == (counts[0], counts[-1])
    # By brute force over the layers at which the count changes.
    best = min(
        sum(
            counts[start] * (stop - start)
            for start, stop in itertools.pairwise((0, *cut, len(counts)))
        )
        for n in range(most)
        for cut in itertools.combinations(range(1, len(counts)), n)
        if counts[max((0, *cut))] == counts[-1]
    )
    assert sum(coarse) == best


def test_coarsen_published_schedule_by_hand() -> None:
    coarse = coarsen(cosine_token_counts(28, 16), 6)
    assert len(set(coarse)) == 6
    assert sum(coarse) == 252  # against 231 of the full schedule


@given(st.integers(1, 24))
def test_uniform_survivors_any_size_nested(tokens: int) -> None:
    survivors = uniform_survivors(tokens)
    assert sorted(survivors) == list(range(1, tokens + 1))
    for count in range(1, tokens):
        assert set(survivors[count]) < set(survivors[count + 1])
    assert survivors[1] == (tokens - 1,)


@settings(max_examples=30)
@given(
    layers=st.integers(2, 32),
    tokens=st.integers(1, 16),
    keep=st.sampled_from(["suffix", "uniform"]),
)
def test_plan_any_schedule_covers_all_layers(layers: int, tokens: int, keep: str) -> None:
    layer_groups = plan_layer_groups(
        CompressionConfig(keep=keep),  # type: ignore[arg-type]
        num_layers=layers,
        tokens_per_frame=tokens,
    )
    assert sum(stage.num_layers for stage in layer_groups) == layers
    assert tokens_per_frame_by_layer(layer_groups, tokens) == cosine_token_counts(layers, tokens)


def test_apply_drop_suffix_keeps_last_tokens() -> None:
    x = jnp.arange(12.0).reshape(1, 12, 1)
    left = apply_drop(x, Drop(run=4, keep=(2, 3)))
    assert left.ravel().tolist() == [2, 3, 6, 7, 10, 11]
    assert apply_drop(x, Drop(run=4, keep=(0, 1))).ravel().tolist() != left.ravel().tolist()
    average = apply_drop(x, Drop(run=6, keep=(), average=True))
    assert average.ravel().tolist() == [2.5, 8.5]


def test_drops_indivisible_length_refused() -> None:
    three = CompressionConfig(schedule="stepwise", drop_after_layers=(1,), strides=(3,))
    with pytest.raises(ConfigError, match="stride 3 must divide the 16 remaining tokens"):
        plan_layer_groups(three, num_layers=4, tokens_per_frame=16)
    average = CompressionConfig(
        schedule="stepwise", keep="average", drop_after_layers=(1,), strides=(3,)
    )
    layer_groups = plan_layer_groups(average, num_layers=4, tokens_per_frame=16)
    with pytest.raises(ConfigError, match="32 visual tokens cannot be taken in runs of 3"):
        layer_groups[1].visual_length(32)
