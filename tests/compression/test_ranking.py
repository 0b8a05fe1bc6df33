"""Tests of the base model's ranked drop: configuration, layer groups and token selection."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.compression.ranking import (
    attention_of_last_token,
    evenly_spread,
    most_attended,
    survivors,
)
from xcomp_jax.compression.schedule import (
    LayerGroup,
    RankedDrop,
    plan_layer_groups,
    tokens_per_frame_by_layer,
)
from xcomp_jax.config import CompressionConfig, ConfigError, StageConfig, from_dict, to_dict

# One shape for all drawn examples, so that each function is compiled once.
SLOTS, KEEP, BATCH = 24, 16, 3


def ranked(**changes: Any) -> CompressionConfig:
    fields = {"drop_after_layers": (2, 4), "ratios": (0.5, 0.25), "ranking": "attention"}
    return CompressionConfig(schedule="ranked", **(fields | changes))


@pytest.mark.parametrize(
    ("ranking", "by_attention"),
    [
        ("attention", (True, True, True)),
        ("uniform", (False, False, False)),
        ("uniform0_attention", (False, True, True)),
        ("uniform1_attention", (False, False, True)),
    ],
)
def test_plan_ranked_schedule_gives_layer_groups(
    ranking: str, by_attention: tuple[bool, ...]
) -> None:
    config = ranked(drop_after_layers=(8, 16, 24), ratios=(0.5, 0.25, 0.125), ranking=ranking)
    layer_groups = plan_layer_groups(config, num_layers=28, tokens_per_frame=16)
    drops = [RankedDrop(r, by) for r, by in zip(config.ratios, by_attention, strict=True)]
    assert layer_groups == (
        LayerGroup(8),
        LayerGroup(8, drops[0]),
        LayerGroup(8, drops[1]),
        LayerGroup(4, drops[2]),
    )
    counts = tokens_per_frame_by_layer(layer_groups, 16)
    assert counts == (16,) * 8 + (8,) * 8 + (4,) * 8 + (2,) * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranking": None}, r"ranking=None goes with schedule='ranked'.*known: \['attention'"),
        ({"ratios": (0.5,)}, r"ratios=\(0\.5,\) needs one entry for each of .*\(2, 4\)"),
        ({"ratios": (0.5, 0.75)}, r"ratios=\(0\.5, 0\.75\) must lie in \(0, 1\] and never grow"),
        ({"ratios": (1.5, 1.0)}, r"must lie in \(0, 1\]"),
        ({"ratios": (0.5, 0.0)}, r"must lie in \(0, 1\]"),
        ({"ratios": (0.5, float("nan"))}, r"must lie in \(0, 1\]"),
        ({"strides": (2, 2)}, r"strides=\(2, 2\) needs one entry for each of .*=\(\)"),
        ({"drop_after_layers": (), "ratios": ()}, "goes with schedule='stepwise' or 'ranked'"),
        ({"keep": "average"}, "keep='average' needs schedule='stepwise'"),
    ],
)
def test_ranked_config_invalid_value_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ranked(**changes)


@pytest.mark.parametrize("changes", [{"ranking": "uniform"}, {"ratios": (0.5,)}])
def test_ranked_fields_other_schedule_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="schedule='cosine'"):
        CompressionConfig(**changes)


def test_ranked_config_json_round_trip_equal() -> None:
    config = ranked()
    assert from_dict(CompressionConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="must be one of"):
        from_dict(CompressionConfig, to_dict(config) | {"ranking": "random"})


def test_stage_ranked_by_attention_refused() -> None:
    def stage(ranking: str) -> StageConfig:
        compression = ranked(ranking=ranking)
        return StageConfig(name="s", num_steps=1, learning_rate=1.0, compression=compression)

    assert stage("uniform").compression.ranking == "uniform"
    with pytest.raises(ConfigError, match="which in training is the end of the answer"):
        stage("attention")


def test_token_count_fraction_truncated() -> None:
    # In float32 0.29 * 100 is 29.
    drop = RankedDrop(0.29, by_attention=False)
    assert drop.token_count(100) == 28
    original = jnp.array([100, 50, 3, 0])
    left = survivors(drop, original_slots=110, original=original, length=original, attention=None)
    assert left.count.tolist() == [28, 14, 0, 0]
    assert left.indices.shape == (4, drop.token_count(110))


def test_most_attended_padded_batch_in_token_order() -> None:
    attention = jnp.array([[0.1, 0.4, 0.0, 0.3, 0.2, 9.0], [0.2, 0.2, 0.2, 9.0, 9.0, 9.0]])
    got = most_attended(attention, jnp.array([5, 3]), 3, jnp.array([3, 2]))
    assert got[0].tolist() == [1, 3, 4]
    assert got[1, :2].tolist() == [0, 1]


def test_evenly_spread_small_counts_by_hand() -> None:
    got = evenly_spread(jnp.array([10, 10, 7, 9]), 5, jnp.array([5, 4, 1, 2]))
    assert got[0].tolist() == [0, 2, 4, 6, 9]
    assert got[1, :4].tolist() == [0, 3, 6, 9]
    assert got[2, :1].tolist() == [0]
    assert got[3, :2].tolist() == [0, 8]


@settings(max_examples=60)
@given(data=st.data())
def test_survivors_random_batch_equal_plain_python(data: st.DataObject) -> None:
    lengths = [data.draw(st.integers(1, SLOTS)) for _ in range(BATCH)]
    counts = [data.draw(st.integers(0, min(n, KEEP))) for n in lengths]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Few different values: equal ones are common.
    attention = rng.integers(0, 6, (BATCH, SLOTS)).astype(np.float32)
    most = jax.jit(most_attended, static_argnums=2)
    even = jax.jit(evenly_spread, static_argnums=1)
    length, count = jnp.array(lengths), jnp.array(counts)
    by_attention = np.asarray(most(attention, length, KEEP, count))
    spread = np.asarray(even(length, KEEP, count))
    for row, (n, k) in enumerate(zip(lengths, counts, strict=True)):
        best = sorted(range(n), key=lambda i, row=row: (-attention[row, i], i))[:k]
        assert by_attention[row, :k].tolist() == sorted(best)
        places = [int(Fraction(i * (n - 1), max(k - 1, 1))) for i in range(k)]
        assert spread[row, :k].tolist() == places
    # Entries beyond the count are padding, but valid slots.
    for indices in (by_attention, spread):
        assert indices.min() >= 0
        assert indices.max() < SLOTS


def test_evenly_spread_long_video_no_overflow() -> None:
    tokens, kept = 65_536, 46_340
    got = np.asarray(evenly_spread(jnp.array([tokens]), kept, jnp.array([kept])))[0]
    want = np.arange(kept, dtype=np.int64) * (tokens - 1) // (kept - 1)
    np.testing.assert_array_equal(got, want)


def test_attention_of_last_token_padding_ignored() -> None:
    rng = np.random.default_rng(0)
    query = rng.normal(size=(2, 9, 4, 8)).astype(np.float32)
    key = rng.normal(size=(2, 9, 2, 8)).astype(np.float32)
    mask = np.ones((2, 9), bool)
    mask[0, [2, 3, 8]] = False
    key[0, [2, 3, 8]] = 1e3  # padding would change the result
    got = np.asarray(attention_of_last_token(query, key, mask))
    for row, last in enumerate((7, 8)):
        weights = []
        for head in range(4):
            scores = key[row, :, head // 2] @ query[row, last, head] / np.sqrt(8)
            exponents = np.where(mask[row], np.exp(np.where(mask[row], scores, 0)), 0)
            weights.append(exponents / exponents.sum())
        np.testing.assert_allclose(got[row], np.mean(weights, axis=0), atol=1e-6)
    # Control: the token before the last one has other attention.
    mask[1, 8] = False
    other = np.asarray(attention_of_last_token(query, key, mask))
    np.testing.assert_array_equal(other[0], got[0])
    assert np.abs(other[1] - got[1]).max() > 1e-2
