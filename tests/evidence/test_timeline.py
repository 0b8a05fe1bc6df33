"""Tests the timeline: bounded size for any number of frames, peaks and selection visible."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from tests.evidence.examples import evidence, many_frames, one_frame
from xcomp_jax.evidence import Evidence
from xcomp_jax.evidence.cells import LIMIT, timeline_cells
from xcomp_jax.evidence.timeline import axis_times, timeline


def path(text: str, name: str) -> str:
    """Returns the drawing commands of one shape; empty if it is not drawn."""
    return "".join(re.findall(rf'<path class="{name}" d="([^"]*)"', text))


def test_timeline_cells_are_adjacent_and_keep_peaks() -> None:
    cells = timeline_cells(many_frames())
    assert len(cells) == LIMIT
    assert all(a.right == b.left < b.right for a, b in itertools.pairwise(cells))
    assert [cell.score for cell in cells].count(9.0) == 1
    assert cells[0].left == 0
    assert cells[-1].right <= 7200


@pytest.mark.parametrize("index", [0, 1, 4096, 8190, 8191])
def test_timeline_single_peak_of_thousands_is_visible(index: int) -> None:
    scores = tuple(float(i == index) for i in range(8192))
    example = evidence(
        duration=7200.0,
        frame_times=many_frames().frame_times,
        frame_scores=scores,
        selected_frames=(index,),
        thumbnails=(),
    )
    text = timeline(example, "")
    assert path(text, "scored").count("V0.0") == 1
    assert path(text, "selected").count("V0.0") == 1
    assert path(text, "marks").count("M") == 1
    left, right = (float(x) for x in re.findall(r"[MH]([\d.]+)", path(text, "marks"))[:2])
    assert left <= 1200 * example.frame_times[index] / 7200 <= right


def test_timeline_cells_few_frames_have_one_each() -> None:
    cells = timeline_cells(evidence())
    assert [cell.score for cell in cells] == list(evidence().frame_scores or ())
    assert [i for i, cell in enumerate(cells) if cell.has_selected] == list(range(22, 38))
    assert (cells[3].left, cells[3].right) == (2.5, 3.5)


def test_timeline_cells_repeated_frames_share_one() -> None:
    example = evidence(
        duration=2.0,
        frame_times=(0.0, 0.0, 1.0, 1.0),
        frame_scores=(5.0, 1.0, 2.0, 3.0),
        selected_frames=(1,),
        thumbnails=(),
    )
    cells = timeline_cells(example)
    assert [(cell.left, cell.right, cell.score) for cell in cells] == [(0, 0.5, 5), (0.5, 1.5, 3)]
    assert [cell.selected_score for cell in cells] == [1, None]


def test_timeline_cells_cover_only_the_sampled_clip() -> None:
    """Frames from 60 s to 90 s of two minutes leave the rest of the timeline empty."""
    times = tuple(60.0 + i for i in range(31))
    cells = timeline_cells(
        evidence(
            duration=120.0,
            frame_times=times,
            frame_scores=None,
            selected_frames=(0,),
            thumbnails=(),
        )
    )
    assert (cells[0].left, cells[-1].right) == (59.5, 90.5)


def test_timeline_missing_score_leaves_gap() -> None:
    scores = [*(evidence().frame_scores or ())]
    scores[10] = scores[40] = math.nan
    text = timeline(evidence(frame_scores=tuple(scores)), "")
    assert path(text, "scored").count("M") == 3
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    "example",
    [
        one_frame(),
        one_frame(frame_scores=(0.5,)),
        one_frame(frame_scores=(math.nan,)),
        evidence(frame_scores=(0.25,) * 64),
        evidence(frame_scores=(math.nan,) * 64),
        evidence(duration=0.0),
        many_frames(),
    ],
)
def test_timeline_numbers_are_finite_and_in_bounds(example: Evidence) -> None:
    text = timeline(example, "")
    for shape in ("scored", "selected", "marks"):
        for command, number in re.findall(r"([MHV])([^MHVZ ]+)", path(text, shape)):
            assert 0 <= float(number) <= (100 if command == "V" else 1200)
    assert path(text, "marks")
    assert len(text) < 40_000


def test_timeline_equal_scores_have_half_height() -> None:
    text = timeline(evidence(frame_scores=(0.25,) * 64), "")
    assert set(re.findall(r"V([\d.]+)", path(text, "scored"))) == {"48.5", "100"}


def test_timeline_without_scores_draws_only_marks() -> None:
    text = timeline(evidence(frame_scores=None), "")
    assert not path(text, "scored") + path(text, "selected")
    assert path(text, "marks").count("M") == 16


@pytest.mark.parametrize("end", [0.04, 1.0, 7.3, 59.0, 61.0, 600.0, 3599.0, 7201.0, 90_000.0])
def test_axis_times_any_length_keep_distance(end: float) -> None:
    times = axis_times(end)
    assert (times[0], times[-1]) == (0, end)
    assert 2 <= len(times) <= 6
    assert all(b - a >= end / 5 for a, b in itertools.pairwise(times))


def test_axis_times_zero_length_has_one_label() -> None:
    assert axis_times(0.0) == [0.0]
    assert timeline(one_frame(), "").count("<text") == 1
