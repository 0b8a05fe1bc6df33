"""Groups frames into a bounded number of timeline cells."""

from __future__ import annotations

import dataclasses
import itertools
import math

from xcomp_jax.evidence.record import Evidence

LIMIT = 600
"""Maximum number of cells: about one per pixel of a wide screen."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A time interval and the highest scores of its frames.

    Attributes:
        left, right: seconds.
        score: highest finite score of all frames; None if there is none.
        has_selected: at least one frame is selected.
        selected_score: highest finite score of the selected frames; None if there is none.
    """

    left: float
    right: float
    score: float | None
    has_selected: bool
    selected_score: float | None


def timeline_end(evidence: Evidence) -> float:
    """Returns the seconds at the right end of the timeline, above 0 even for duration 0."""
    return max(evidence.duration, evidence.frame_times[-1]) or 1.0


def timeline_cells(evidence: Evidence, limit: int = LIMIT) -> list[Cell]:
    """Groups neighbouring frames into at most `limit` cells, each with its maximum score.

    Maxima keep every peak visible. A frame extends halfway to its neighbours; frames with the same
    time share a cell.
    """
    # Repeated frames have the same time; a cell of their own would have no width and hide a score.
    moments = [
        (time, list(indices))
        for time, indices in itertools.groupby(
            range(len(evidence.frame_times)), key=evidence.frame_times.__getitem__
        )
    ]
    count = min(limit, len(moments))
    groups = [
        moments[k * len(moments) // count : (k + 1) * len(moments) // count] for k in range(count)
    ]
    inner = [(before[-1][0] + after[0][0]) / 2 for before, after in itertools.pairwise(groups)]
    first, last = _outer_edges([time for time, _ in moments], timeline_end(evidence))
    selected = set(evidence.selected_frames)
    return [
        _cell(evidence, left, right, [i for _, indices in group for i in indices], selected)
        for (left, right), group in zip(
            itertools.pairwise([first, *inner, last]), groups, strict=True
        )
    ]


def _outer_edges(times: list[float], end: float) -> tuple[float, float]:
    """Extends the first and last frame outwards as far as they extend inwards."""
    if len(times) == 1:
        return 0.0, end
    first = times[0] - (times[1] - times[0]) / 2
    last = times[-1] + (times[-1] - times[-2]) / 2
    return max(0.0, first), min(end, last)


def _cell(
    evidence: Evidence, left: float, right: float, indices: list[int], selected: set[int]
) -> Cell:
    inside = [i for i in indices if i in selected]
    return Cell(left, right, _highest(evidence, indices), bool(inside), _highest(evidence, inside))


def _highest(evidence: Evidence, indices: list[int]) -> float | None:
    scores = evidence.frame_scores or ()
    return max((scores[i] for i in indices if scores and math.isfinite(scores[i])), default=None)
