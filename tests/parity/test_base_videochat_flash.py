"""Parity of `base_videochat_flash`: the base model's decoder with its ranked drop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.cases import Case, assert_parity
from tests.parity.lm_run import (
    NOISE_FACTOR,
    Inputs,
    Run,
    check_generation,
    check_hidden_layers,
    logit_noise,
    run_prefill,
)
from tests.parity.recorded_model import base_compression_of, recorded_model


def check_drop(
    case: Case, name: str, entry: dict, stage: int, before: np.ndarray, run: Run, control: Run
) -> np.ndarray:
    """Compares drop number `stage`; `before` [n] are the places of its input in the video."""
    assert run.out.survivors is not None
    assert control.out.survivors is not None
    left, wrong = run.out.survivors[stage + 1], control.out.survivors[stage + 1]
    recorded = entry["stages"][stage]
    assert len(before) == recorded["tokens_before"]
    indices = np.asarray(left.indices[0])
    assert int(left.count[0]) == len(indices) == recorded["tokens_after"]
    within = case.io[f"{name}kept_index_stage{stage}_within_current"]
    np.testing.assert_array_equal(indices, within)
    np.testing.assert_array_equal(
        before[indices], case.io[f"{name}kept_index_stage{stage}_original"]
    )
    # Control: the last tokens, as in LP-Comp.
    last = np.arange(len(before) - len(indices), len(before))
    assert len(last) == len(before) or not np.array_equal(last, within)

    weights = f"{name}attention_to_visual_stage{stage}"
    assert (weights in case.io) == (left.attention is not None)
    if left.attention is not None:
        got, want = np.asarray(left.attention[0]), case.io[weights]
        # An error in an exponent is a relative error of the weight; exponents are computed from
        # hidden states, which are at most as noisy as the logits.
        assert_parity(
            got, want, atol=0.0, rtol=logit_noise(entry), control=np.asarray(wrong.attention[0])
        )
        gap = recorded.get("topk_boundary_gap", np.inf)
        assert np.abs(got - want).max() < gap / 2, "a choice may turn"

    after = f"{name}hidden_after_drop_{recorded['after_n_layers'] - 1:02d}"
    if after in case.io:
        hidden = run.hidden_after_layer(recorded["after_n_layers"] - 1)
        first = entry["first_image_token_position"]
        rest = first + len(before)
        got, other = (
            np.concatenate([hidden[:first], hidden[first:rest][kept], hidden[rest:]])
            for kept in (indices, last)
        )
        tolerance = NOISE_FACTOR * entry["logits_max_abs_diff_vs_float64"]
        assert_parity(got, case.io[after], atol=tolerance, control=other)
    return before[indices]


@pytest.mark.golden("base_videochat_flash")
def test_ranked_decoder_recorded_runs_equal(case) -> None:
    for entry in case.meta["runs"]:
        name = f"{entry['name']}__"
        compression = base_compression_of(entry["config"])
        assert list(compression.drop_after_layers) == entry["drop_after_n_decoder_layers"]
        model, params = recorded_model(case, compression=compression)
        inputs = Inputs.of(case.io, name)
        assert inputs.prefix.shape[1] == entry["first_image_token_position"]
        run = run_prefill(model, params, inputs)
        control = run_prefill(model, params, inputs.one_position_off())

        kept = np.arange(inputs.visual.shape[1])
        for stage in range(len(entry["stages"])):
            kept = check_drop(case, name, entry, stage, kept, run, control)
        noise = lambda layer, entry=entry: entry["logits_max_abs_diff_vs_float64"]  # noqa: E731
        check_hidden_layers(case, run, control, name, noise)
        np.testing.assert_array_equal(run.kv_length, case.io[f"{name}kv_length_per_layer"])
        assert run.kv_length == entry["kv_length_per_layer"]
        tolerance = logit_noise(entry)
        assert_parity(run.logits, case.io[f"{name}logits"], atol=tolerance, control=control.logits)
        check_generation(case, run, control, name, tolerance)


@pytest.mark.golden("base_videochat_flash")
def test_ranked_decoder_other_ranking_differs(case) -> None:
    """Control: another ranking with the same number of tokens gives other logits."""
    ranked = [entry for entry in case.meta["runs"] if entry["stages"]]
    # The run with the fewest drops is enough: each costs a compilation.
    for entry in sorted(ranked, key=lambda entry: len(entry["stages"]))[:1]:
        other = "uniform" if entry["config"]["llm_compress_type"] == "attention" else "attention"
        compression = base_compression_of(entry["config"] | {"llm_compress_type": other})
        model, params = recorded_model(case, compression=compression)
        run = run_prefill(model, params, Inputs.of(case.io, f"{entry['name']}__"))
        assert run.kv_length == entry["kv_length_per_layer"]
        want = case.io[f"{entry['name']}__logits"]
        assert np.abs(run.logits - want).max() > 10 * logit_noise(entry)
