"""Tests that evidence round-trips through JSON, which has finite numbers only."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from tests.evidence.examples import evidence, hostile, many_frames, one_frame
from xcomp_jax.evidence import Evidence, from_json, to_json


@pytest.mark.parametrize("example", [evidence(), hostile(), many_frames(), one_frame()])
def test_from_json_inverts_to_json(example: Evidence) -> None:
    assert from_json(to_json(example)) == example


def test_from_json_earlier_format_is_read() -> None:
    """The first format called the selected frames "chosen"."""
    earlier = to_json(evidence()).replace("xcomp evidence 2", "xcomp evidence 1")
    assert earlier.count('"selected_frames"') == 1
    earlier = earlier.replace('"selected_frames"', '"chosen"')
    assert from_json(earlier) == evidence()


def test_to_json_lists_selected_frames_with_scores() -> None:
    rows = json.loads(to_json(evidence()))["selected_frames"]
    assert rows[8] == {"frame": 30, "time": 30.0, "score": 1.0}
    assert [row["frame"] for row in rows] == list(range(22, 38))


def test_to_json_without_thumbnails_omits_images() -> None:
    text = to_json(evidence(), thumbnails=False)
    assert "jpeg" not in text
    assert from_json(text) == evidence(thumbnails=())


def test_to_json_non_finite_number_is_null() -> None:
    scores = (math.nan, math.inf, -math.inf, *evidence().frame_scores[3:])
    text = to_json(evidence(frame_scores=scores, selection={"decay": math.nan}))
    value = json.loads(text, parse_constant=pytest.fail)
    assert value["frame_scores"][:4] == [None, None, None, scores[3]]
    assert value["selection"] == {"decay": None}
    parsed = from_json(text)
    assert all(math.isnan(score) for score in parsed.frame_scores[:3])
    assert parsed.frame_scores[3:] == scores[3:]


def test_to_json_numpy_numbers_equal_python_numbers() -> None:
    plain = evidence()
    from_arrays = dataclasses.replace(
        plain,
        frame_times=tuple(np.asarray(plain.frame_times)),
        frame_scores=tuple(np.asarray(plain.frame_scores)),
        selected_frames=tuple(np.asarray(plain.selected_frames)),
    )
    assert to_json(from_arrays) == to_json(plain)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not the JSON of an answer's evidence"),
        ("[]", '"format" must be one of'),
        ('{"format": "xcomp evidence 3"}', "xcomp evidence 2"),
        ('{"format": []}', '"format" must be one of'),
        ('{"format": "xcomp evidence 2"}', "incomplete.*frame_scores"),
        (to_json(evidence()).replace('"duration": 64.0', '"duration": "long"'), "wrong type"),
        (to_json(evidence()).replace('"seconds": 1.24', '"second": 1.24'), "wrong type"),
        (
            to_json(evidence(selection={})).replace('"selection": {}', '"selection": 3'),
            "wrong type",
        ),
        (to_json(evidence()).replace('"jpeg": "', '"jpeg": "?'), "base64"),
    ],
)
def test_from_json_invalid_text_raises(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_json(text)
