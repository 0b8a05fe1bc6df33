"""Parity of `schedule`: drop lists and surviving tokens, exactly."""

from __future__ import annotations

import ast
import re

import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.recorded_model import compression_of
from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.schedule import (
    LayerGroup,
    cosine_token_counts,
    plan_layer_groups,
    tokens_per_frame_by_layer,
    uniform_survivors,
)
from xcomp_jax.config import CompressionConfig


def survivors_by_stage(layer_groups: tuple[LayerGroup, ...], tokens: int) -> list[list[float]]:
    """Applies every drop to the numbers 1..tokens (averages included)."""
    x = jnp.arange(1.0, tokens + 1)[None, :, None]
    left = []
    for stage in layer_groups[1:]:
        assert stage.drop is not None
        x = apply_drop(x, stage.drop)
        left.append(np.asarray(x).ravel().tolist())
    return left


def drop_places(layer_groups: tuple[LayerGroup, ...]) -> list[int]:
    return np.cumsum([stage.num_layers for stage in layer_groups])[:-1].tolist()


@pytest.mark.golden("schedule")
def test_cosine_recorded_variants_equal(case) -> None:
    variants = {k: v for k, v in case.json("schedule.json").items() if "goal_len_per_i" in v}
    for name, want in variants.items():
        layers, tokens = want["n_layers"], want["goal_len_per_i"][0]
        counts = tuple(want["tokens_per_frame_seen_by_0based_layer"])
        assert cosine_token_counts(layers, tokens) == counts, name
        # Control: the paper's formula rounds up, the code behind its numbers half up.
        ceil = [
            int(np.ceil((tokens - 1) / 2 * np.cos(np.pi * (i + 1) / layers) + (tokens + 1) / 2))
            for i in range(layers)
        ]
        assert tuple(ceil) != counts, name
        evenly = uniform_survivors(tokens)
        for positions in want["idx_lists_as_computed_per_i"]:
            assert tuple(p - 1 for p in positions) == evenly[len(positions)], name
        for keep, key in (
            ("suffix", "suffix_surviving_original_1based_positions_per_stage"),
            ("uniform", "nosuffix_surviving_original_1based_positions_per_stage"),
        ):
            layer_groups = plan_layer_groups(
                CompressionConfig(keep=keep), num_layers=layers, tokens_per_frame=tokens
            )
            assert drop_places(layer_groups) == want["drop_after_n_decoder_layers"], name
            assert survivors_by_stage(layer_groups, tokens) == want[key], (name, keep)
            ratios = [1.0, *(len(left) / tokens for left in want[key])]
            assert ratios == want["llm_image_token_ratio_list"]
            assert tokens_per_frame_by_layer(layer_groups, tokens) == counts
        suffix, uniform = (
            want[f"{rule}_surviving_original_1based_positions_per_stage"]
            for rule in ("suffix", "nosuffix")
        )
        assert suffix != uniform, "the two keep rules must be told apart by this case"


@pytest.mark.golden("schedule")
def test_stepwise_recorded_variants_equal(case) -> None:
    for name, want in case.json("schedule.json").items():
        if "goal_len_per_i" in want:
            continue
        outputs = want["module_output_on_arange64_per_stage"]
        listed = re.search(r"stride_list((?:_\d+)+)", name)
        env = dict(want.get("env", {}))
        if not env:  # the training class: only the name says which strides it was given
            assert listed is not None, name
            strides = [int(s) for s in listed.group(1).strip("_").split("_")]
            env = {
                "EXTRA_PARAM_INNER_CONDENSER_ID": str(list(range(1, len(strides) + 1))),
                "EXTRA_PARAM_INNER_CONDENSER_TYPE": "nexthalf",
                "EXTRA_PARAM_INNER_STRIDE_LIST": str(strides),
            }
        places = ast.literal_eval(env["EXTRA_PARAM_INNER_CONDENSER_ID"])
        layer_groups = plan_layer_groups(
            compression_of(env), num_layers=max(places) + 1, tokens_per_frame=16
        )
        total = 64
        got = [[value - 1 for value in left] for left in survivors_by_stage(layer_groups, total)]
        assert drop_places(layer_groups) == places, name
        if want.get("consistent", True):
            assert got == outputs, name
            shifted = [[value - 1 for value in left] for left in outputs]
            assert got != shifted, "control: the token before the kept one"
        else:
            # The original's inference class ignores its list and would fail; ours uses it.
            assert [len(left) for left in got] == want["expected_token_counts_from_ratio"], name
            assert [len(left) for left in outputs] != want["expected_token_counts_from_ratio"], name


@pytest.mark.golden("schedule")
def test_cosine_published_log_equal(case) -> None:
    trace = case.json("reference_log_trace.json")
    lengths = trace["prefill_len_by_layer"]
    frames, text = trace["window_frames"], trace["text_tokens"]
    tokens = trace["tokens_per_frame_entering_layer"][0]
    counts = cosine_token_counts(len(lengths), tokens)
    assert [frames * count + text for count in counts] == lengths
    assert lengths == trace["first_decode_position_by_layer"]
    control = cosine_token_counts(len(lengths) + 1, tokens)
    assert [frames * count + text for count in control[: len(lengths)]] != lengths
