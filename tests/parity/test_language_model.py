"""Parity of `lm_prefill_lpcomp`, `lm_generate`, `lm_nexthalf_stride`: the compressing decoder."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest

from tests.parity.cases import Case, assert_parity
from tests.parity.lm_run import (
    NOISE_FACTOR,
    Inputs,
    Run,
    check_generation,
    check_hidden_layers,
    layer_groups_of,
    logit_noise,
    positions_by_layer,
    run_prefill,
)
from tests.parity.recorded_model import layer_of, recorded_model
from xcomp_jax.compression.drop import apply_drop


@functools.lru_cache(maxsize=8)
def prefilled(case: Case, entry: int | None = None) -> tuple[Inputs, Run, Run]:
    """Returns the inputs of a case (or of run number `entry`), the run, and a shifted control."""
    run = {} if entry is None else case.meta["runs"][entry]
    model, params = recorded_model(case, run.get("env"))
    inputs = Inputs.of(case.io, f"{run['name']}__" if run else "")
    control = inputs.one_position_off()
    return inputs, run_prefill(model, params, inputs), run_prefill(model, params, control)


def check_drops(case: Case, run: Run, inputs: Inputs, prefix: str, noise) -> None:
    first = inputs.prefix.shape[1]
    for name, want in case.io.matching(rf"{prefix}hidden_after_drop_\d+").items():
        layer = layer_of(name)
        stage = layer_groups_of(run.model)[run.group_of_layer[layer] + 1]
        hidden = run.hidden_after_layer(layer)
        last = len(hidden) - inputs.suffix.shape[1]
        visual = np.asarray(apply_drop(hidden[None, first:last], stage.drop)[0])
        moved = np.asarray(apply_drop(hidden[None, first - 1 : last - 1], stage.drop)[0])
        got, control = (
            np.concatenate([hidden[:first], part, hidden[last:]]) for part in (visual, moved)
        )
        assert_parity(got, want, atol=NOISE_FACTOR * noise(layer), control=control)


@pytest.mark.golden("lm_prefill_lpcomp")
def test_prefill_recorded_layers_equal(case) -> None:
    inputs, run, control = prefilled(case)
    noise = case.meta["max_abs_diff_vs_float64_per_layer"]
    check_hidden_layers(case, run, control, "", noise.__getitem__)
    check_drops(case, run, inputs, "", noise.__getitem__)
    final = [
        np.concatenate([np.asarray(part[0]) for part in (r.out.prefix, r.out.visual, r.out.suffix)])
        for r in (run, control)
    ]
    assert_parity(
        final[0], case.io["final_normed_hidden"], atol=NOISE_FACTOR * noise[-1], control=final[1]
    )
    tolerance = logit_noise(case.meta)
    assert_parity(run.logits, case.io["logits"], atol=tolerance, control=control.logits)
    reversed_run = run_prefill(run.model, run.params, inputs.other_survivors())
    assert np.abs(reversed_run.logits - case.io["logits"]).max() > 10 * tolerance


@pytest.mark.golden("lm_prefill_lpcomp")
def test_embedding_recorded_sequence_equal(case) -> None:
    _, params = recorded_model(case)
    inputs = Inputs.of(case.io)
    table = np.asarray(params["llm"]["embed_tokens"]["embedding"])
    got = np.concatenate([table[inputs.prefix[0]], inputs.visual[0], table[inputs.suffix[0]]])
    np.testing.assert_array_equal(got, case.io["inputs_embeds"].reshape(got.shape))
    assert inputs.prefix.shape[1] == int(case.io["first_image_token_position"].reshape(-1)[0])
    assert inputs.visual.shape[1] == int(case.io["num_image_token_lens"].reshape(-1)[0])


@pytest.mark.golden("lm_prefill_lpcomp")
def test_prefill_recorded_positions_and_cache_equal(case) -> None:
    inputs, run, shifted = prefilled(case)
    model = run.model
    positions = positions_by_layer(model, inputs)
    for name, want in case.io.matching(r"position_ids_layer_\d+").items():
        np.testing.assert_array_equal(positions[layer_of(name)], want)
    lengths = case.io["kv_length_per_layer"].tolist()
    assert run.kv_length == lengths == case.meta["kv_length_per_layer"]
    plain = dataclasses.replace(
        model.config, compression=dataclasses.replace(model.config.compression, schedule="none")
    )
    control = run_prefill(type(model)(plain), run.params, inputs)
    assert control.kv_length != lengths
    noise = case.meta["max_abs_diff_vs_float64_per_layer"]
    for name, want in case.io.matching(r"kv_[kv]_layer_\d+(_head\d+)?").items():
        which, layer, head = re.fullmatch(r"kv_(.)_layer_(\d+)(?:_head(\d+))?", name).groups()
        pick = slice(None) if head is None else int(head)
        got, wrong = (r.cached(int(layer), which)[pick] for r in (run, shifted))
        assert_parity(got, want, atol=NOISE_FACTOR * noise[int(layer)], control=wrong)


@pytest.mark.golden("lm_generate")
def test_generate_recorded_tokens_equal(case) -> None:
    _, run, control = prefilled(case)
    tolerance = logit_noise(case.meta)

    want = case.io["generated_ids"]
    got, wrong = run.generate(len(want)), control.generate(len(want))
    np.testing.assert_array_equal(got.ids[0], want)
    assert_parity(got.logits[0], case.io["step_logits"], atol=tolerance, control=wrong.logits[0])
    # Rows: the last prompt token, then each token fed back; the last generated one never is.
    positions = np.array(run.kv_length)[None, :] - 1 + np.arange(len(want))[:, None]
    np.testing.assert_array_equal(positions, case.io["position_id_last_token"])
    assert (positions + 1 != case.io["position_id_last_token"]).all()
    np.testing.assert_array_equal(
        np.array(run.kv_length) + len(want) - 1, case.io["final_kv_length_per_layer"]
    )

    for name, want in case.io.optional(r"generated_ids_repetition_penalty_.+").items():
        suffix = name.removeprefix("generated_ids_")
        penalty = float(suffix.removeprefix("repetition_penalty_").replace("_", "."))
        got = run.generate(len(want), penalty)
        np.testing.assert_array_equal(got.ids[0], want)
        assert_parity(
            got.logits[0],
            case.io[f"step_logits_raw_{suffix}"],
            atol=tolerance,
            control=wrong.logits[0],
        )
        # Control: the raw logits are not the processed scores.
        assert_parity(
            got.scores[0], case.io[f"step_scores_{suffix}"], atol=tolerance, control=got.logits[0]
        )


@pytest.mark.golden("lm_nexthalf_stride")
def test_stepwise_recorded_runs_equal(case) -> None:
    for number, entry in enumerate(case.meta["runs"]):
        name = f"{entry['name']}__"
        inputs, run, control = prefilled(case, number)
        assert run.kv_length == entry["kv_length_per_layer"], name
        tolerance = logit_noise(entry)
        # Hidden states are at most as noisy as the logits.
        noise = lambda layer, entry=entry: entry["logits_max_abs_diff_vs_float64"]  # noqa: E731
        check_hidden_layers(case, run, control, name, noise)
        check_drops(case, run, inputs, name, noise)
        assert_parity(run.logits, case.io[f"{name}logits"], atol=tolerance, control=control.logits)
        check_generation(case, run, control, name, tolerance)
