"""However many frames, few points; whatever the scores, peaks and chosen frames are to be seen."""

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
    """The drawing commands of one shape, nothing where it is not drawn."""
    return "".join(re.findall(rf'<path class="{name}" d="([^"]*)"', text))


def test_cells_follow_each_other_and_keep_every_peak() -> None:
    cells = timeline_cells(many_frames())
    assert len(cells) == LIMIT
    assert all(a.right == b.left < b.right for a, b in itertools.pairwise(cells))
    assert [cell.score for cell in cells].count(9.0) == 1
    assert cells[0].left == 0
    assert cells[-1].right <= 7200


@pytest.mark.parametrize("index", [0, 1, 4096, 8190, 8191])
def test_a_single_frame_of_thousands_is_seen(index: int) -> None:
    scores = tuple(float(i == index) for i in range(8192))
    example = evidence(
        duration=7200.0,
        frame_times=many_frames().frame_times,
        frame_scores=scores,
        selected_frames=(index,),
        thumbnails=(),
    )
    text = timeline(example, "")
    assert path(text, "seen").count("V0.0") == 1
    assert path(text, "used").count("V0.0") == 1
    assert path(text, "marks").count("M") == 1
    left, right = (float(x) for x in re.findall(r"[MH]([\d.]+)", path(text, "marks"))[:2])
    assert left <= 1200 * example.frame_times[index] / 7200 <= right


def test_few_frames_have_a_cell_each() -> None:
    cells = timeline_cells(evidence())
    assert [cell.score for cell in cells] == list(evidence().frame_scores or ())
    assert [i for i, cell in enumerate(cells) if cell.selected_frames] == list(range(22, 38))
    assert (cells[3].left, cells[3].right) == (2.5, 3.5)


def test_frames_that_a_short_video_repeats_share_a_cell() -> None:
    example = evidence(
        duration=2.0,
        frame_times=(0.0, 0.0, 1.0, 1.0),
        frame_scores=(5.0, 1.0, 2.0, 3.0),
        selected_frames=(1,),
        thumbnails=(),
    )
    cells = timeline_cells(example)
    assert [(cell.left, cell.right, cell.score) for cell in cells] == [(0, 0.5, 5), (0.5, 1.5, 3)]
    assert [cell.chosen_score for cell in cells] == [1, None]


def test_a_part_of_a_video_takes_only_its_place() -> None:
    """Frames from 60 s to 90 s of two minutes: nothing is claimed about the rest."""
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


def test_a_missing_score_leaves_a_gap() -> None:
    scores = [*(evidence().frame_scores or ())]
    scores[10] = scores[40] = math.nan
    text = timeline(evidence(frame_scores=tuple(scores)), "")
    assert path(text, "seen").count("M") == 3
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
def test_every_number_is_finite_and_within_the_drawing(example: Evidence) -> None:
    text = timeline(example, "")
    for shape in ("seen", "used", "marks"):
        for command, number in re.findall(r"([MHV])([^MHVZ ]+)", path(text, shape)):
            assert 0 <= float(number) <= (100 if command == "V" else 1200)
    assert path(text, "marks")
    assert len(text) < 40_000


def test_equal_scores_stand_half_high() -> None:
    text = timeline(evidence(frame_scores=(0.25,) * 64), "")
    assert set(re.findall(r"V([\d.]+)", path(text, "seen"))) == {"48.5", "100"}


def test_without_scores_only_marks_are_drawn() -> None:
    text = timeline(evidence(frame_scores=None), "")
    assert not path(text, "seen") + path(text, "used")
    assert path(text, "marks").count("M") == 16


@pytest.mark.parametrize("end", [0.04, 1.0, 7.3, 59.0, 61.0, 600.0, 3599.0, 7201.0, 90_000.0])
def test_labels_of_the_axis_keep_apart(end: float) -> None:
    times = axis_times(end)
    assert (times[0], times[-1]) == (0, end)
    assert 2 <= len(times) <= 6
    assert all(b - a >= end / 5 for a, b in itertools.pairwise(times))


def test_a_video_of_no_duration_has_one_label() -> None:
    assert axis_times(0.0) == [0.0]
    assert timeline(one_frame(), "").count("<text") == 1
