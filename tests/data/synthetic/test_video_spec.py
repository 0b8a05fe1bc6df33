"""Planning generated videos: balanced answers, distinct seeds, valid specifications."""

from __future__ import annotations

import collections
import dataclasses

import pytest

from xcomp_jax.data.synthetic.questions import KINDS, questions
from xcomp_jax.data.synthetic.video_spec import plan_specs


def test_plan_specs_is_deterministic_and_seeds_are_disjoint() -> None:
    assert plan_specs(3, 40) == plan_specs(3, 40)
    other = plan_specs(4, 40)
    assert not {spec.seed for spec in plan_specs(3, 40)} & {spec.seed for spec in other}
    # A longer plan has other answers but starts with the same texture seeds.
    assert [spec.seed for spec in plan_specs(3, 8)] == [spec.seed for spec in plan_specs(3, 40)][:8]


@pytest.mark.parametrize("n", [16, 96, 400])
def test_plan_specs_multiple_of_16_has_equal_answer_counts(n: int) -> None:
    planned = [question for spec in plan_specs(5, n) for question in questions(spec)]
    for kind in KINDS:
        counts = collections.Counter(q.answer for q in planned if q.kind == kind)
        options = next(q.options for q in planned if q.kind == kind)
        expected = 3 * n // 16 if kind == "flash_color" else n // 4
        assert counts == dict.fromkeys(options, expected), kind


def test_plan_specs_any_number_differs_by_at_most_one() -> None:
    planned = [question for spec in plan_specs(0, 45) for question in questions(spec)]
    for kind in KINDS:
        counts = collections.Counter(q.answer for q in planned if q.kind == kind)
        assert max(counts.values()) - min(counts.values()) <= 1, kind


def test_flash_frames_lie_within_their_third() -> None:
    for spec in plan_specs(9, 200, num_frames=20):
        frames = spec.flash_frames
        if spec.flash_moment == "never":
            assert len(frames) == 0
            continue
        third = ("early", "middle", "late").index(spec.flash_moment)
        assert 2 <= len(frames) <= 3
        assert third * 20 <= 3 * frames.start
        assert 3 * frames.stop <= (third + 1) * 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "pink"}, "color='pink'"),
        ({"flash_color": None}, "flash_moment='late'"),
        ({"flash_moment": "never"}, "flash_color='blue'"),
        ({"size": 63}, "size=63"),
        ({"num_frames": 8}, "num_frames=8"),
    ],
)
def test_video_spec_invalid_field_is_refused(change: dict[str, object], message: str) -> None:
    valid = next(
        spec
        for spec in plan_specs(0, 64)
        if (spec.flash_moment, spec.flash_color) == ("late", "blue")
    )
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(valid, **change)  # type: ignore[arg-type]
