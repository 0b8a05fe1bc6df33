"""Frames summed up for a timeline: few cells, however many frames there are."""

from __future__ import annotations

import dataclasses
import itertools
import math

from xcomp_jax.evidence.record import Evidence

LIMIT = 600
"""Cells of a timeline: about one per pixel of a wide screen."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A stretch of time and the highest scores in it.

    `left` and `right` are seconds. `score` is over all its frames, `chosen_score` over the chosen
    ones; None where no frame has a finite score. `chosen` says whether any frame was.
    """

    left: float
    right: float
    score: float | None
    selected_frames: bool
    chosen_score: float | None


def timeline_end(evidence: Evidence) -> float:
    """Seconds at the right end of the timeline: above 0 even for a video of no duration."""
    return max(evidence.duration, evidence.frame_times[-1]) or 1.0


def timeline_cells(evidence: Evidence, limit: int = LIMIT) -> list[Cell]:
    """At most `limit` cells of neighbouring frames, each by its maximum so that peaks stay.

    A frame stands for the time halfway to its neighbours. Frames of the same time share a cell.
    """
    # Repeats of a frame take no time, and a cell without width would hide its score.
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
    selected_frames = set(evidence.selected_frames)
    return [
        _cell(evidence, left, right, [i for _, indices in group for i in indices], selected_frames)
        for (left, right), group in zip(
            itertools.pairwise([first, *inner, last]), groups, strict=True
        )
    ]


def _outer_edges(times: list[float], end: float) -> tuple[float, float]:
    """Where the first frame's share begins and the last one's ends: as far out as inwards."""
    if len(times) == 1:
        return 0.0, end
    first = times[0] - (times[1] - times[0]) / 2
    last = times[-1] + (times[-1] - times[-2]) / 2
    return max(0.0, first), min(end, last)


def _cell(
    evidence: Evidence, left: float, right: float, indices: list[int], selected_frames: set[int]
) -> Cell:
    picked = [i for i in indices if i in selected_frames]
    return Cell(left, right, _highest(evidence, indices), bool(picked), _highest(evidence, picked))


def _highest(evidence: Evidence, indices: list[int]) -> float | None:
    scores = evidence.frame_scores or ()
    return max((scores[i] for i in indices if scores and math.isfinite(scores[i])), default=None)
