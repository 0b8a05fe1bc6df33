"""Parity of `clip_scores`: attention of a question to each clip of a window."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.parity.cases import Case, assert_parity
from tests.parity.lm_run import NOISE_FACTOR
from tests.parity.recorded_model import flat_visual, recorded_model, split_ids
from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.engine.engine import Engine
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.selection.plan import plan_scoring
from xcomp_jax.selection.query import Query


def selection_of(score_type: str, **others: Any) -> SelectionConfig:
    """Converts `default` or `segments_A_B` (A clips a segment, one every B) to our schema."""
    match = re.fullmatch(r"segments_(\d+)_(\d+)", score_type)
    if match is None:
        assert score_type == "default", score_type
        return SelectionConfig(scope="global", **others)
    size, stride = map(int, match.groups())
    return SelectionConfig(segment_clips=size, segment_stride=stride, **others)


def scores(
    case: Case, entry: dict[str, Any], model: XComp, params: Params, config: SelectionConfig
) -> np.ndarray:
    """Computes the scores [L, clips] of every layer."""
    name = f"input_{entry['input']}__"
    prefix, suffix = (part[0] for part in split_ids(case.io[f"{name}input_ids"]))
    visual = flat_visual(case.io[f"{name}visual_tokens"])
    # In the recording one placeholder represents the whole video.
    header = int(case.io[f"{name}first_conv_length"].reshape(-1)[0]) - len(prefix) - 1
    engine = Engine(model.config, params)
    plan = plan_scoring(
        engine.layer_groups,
        config,
        visual_tokens=visual.shape[1],
        tokens_per_frame=model.config.projector.tokens_per_frame,
        prefix_length=len(prefix),
    )
    caches = engine.prefill_windows(np.asarray(visual), prefix.tolist(), plan)
    query = Query(tuple(suffix.tolist()), config.query_bias, header)
    return engine.score_windows(caches, query, plan, num_windows=1)[0]


@pytest.mark.golden("clip_scores")
def test_clip_scores_recorded_runs_equal(case: Case, request: pytest.FixtureRequest) -> None:
    """Scores the first run of every kind and the last run, or all with --goldens."""
    runs = case.meta["runs"]
    first_of_kind = {entry["score_type"]: entry for entry in reversed(runs)}
    few = [*first_of_kind.values(), runs[-1]]
    for entry in runs if request.config.getoption("--goldens") else few:
        model, params = recorded_model(case, entry["env"])
        layers = (0, model.config.llm.num_hidden_layers)
        config = selection_of(entry["score_type"], query_bias=entry["query_bias"], layers=layers)
        recorded = case.io.optional(rf"(scores|allow_nan)_{re.escape(entry['name'])}")
        if not recorded:
            # The original divides by zero where a window is shorter than a segment.
            with pytest.raises(ConfigError, match="is more than the"):
                scores(case, entry, model, params, config)
            continue
        (want,) = recorded.values()
        got = scores(case, entry, model, params, config)
        if np.isnan(want).any():
            # There is no question row; NaN scores stay NaN.
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
            np.testing.assert_array_equal(got == 1e9, want == 1e9)
            continue
        fewer = selection_of(entry["score_type"], query_bias=entry["query_bias"] + 1, layers=layers)
        control = scores(case, entry, model, params, fewer)
        tolerance = NOISE_FACTOR * entry["max_abs_diff_vs_float64"]
        assert_parity(got, want, atol=tolerance, control=control)
