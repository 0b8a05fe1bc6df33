"""Draws the timeline as inline SVG: score heights, marks for selected frames, and a time axis.

Shapes lie in nested drawings that stretch to the width of the page; text is not stretched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xcomp_jax.evidence.cells import Cell, timeline_cells, timeline_end
from xcomp_jax.evidence.record import Evidence
from xcomp_jax.evidence.scale import Scale, scale_of
from xcomp_jax.evidence.wording import clock, clock_decimals, escape_html

CHART, STRIP, AXIS, GAP = 140, 12, 26, 6  # CSS pixels
WIDTH = 1200  # units of the stretched drawings, two per cell
FLOOR = 0.03
"""Height of the lowest score, above zero so that scored frames are visible."""

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
LABEL = 0.22
"""Share of a phone's width that one label of the axis needs."""


def timeline(evidence: Evidence, description: str) -> str:
    """Returns an `svg` element of full width; screen readers read `description`."""
    cells, end = timeline_cells(evidence), timeline_end(evidence)
    length = max(evidence.duration, evidence.frame_times[-1])
    scale = scale_of(evidence.frame_scores)
    chart = _chart(cells, scale, end) if scale else ""
    top = CHART + GAP if scale else 0
    axis = top + STRIP
    height = axis + AXIS
    return (
        f'<svg class="timeline" width="100%" height="{height}" role="img" '
        f'aria-label="{escape_html(description)}">'
        f"{chart}"
        f'<rect class="strip" x="0" y="{top}" width="100%" height="{STRIP}"/>'
        f"{_stretched(top, STRIP, STRIP, _shape('marks', _marks(cells, end)))}"
        f"{_axis(length, axis)}</svg>"
    )


def _chart(cells: Sequence[Cell], scale: Scale, end: float) -> str:
    def heights(scores: Iterable[float | None]) -> list[float | None]:
        return [
            None if score is None else FLOOR + (1 - FLOOR) * scale.level(score) for score in scores
        ]

    scored = _steps(cells, heights(cell.score for cell in cells), end)
    selected = _steps(cells, heights(cell.selected_score for cell in cells), end)
    return _stretched(0, CHART, 100, _shape("scored", scored) + _shape("selected", selected)) + (
        f'<line class="base" x1="0" x2="100%" y1="{CHART}" y2="{CHART}"/>'
    )


def _stretched(top: int, height: int, units: int, shapes: str) -> str:
    return (
        f'<svg x="0" y="{top}" width="100%" height="{height}" '
        f'viewBox="0 0 {WIDTH} {units}" preserveAspectRatio="none">{shapes}</svg>'
    )


def _shape(name: str, path: str) -> str:
    return f'<path class="{name}" d="{path}"/>' if path else ""


def _steps(cells: Sequence[Cell], heights: Sequence[float | None], end: float) -> str:
    """Returns the path of a filled step curve, with gaps where the height is None.

    Neighbouring cells share one outline, because separate bars show hairlines between them.
    """
    parts, is_open = [], False
    for cell, height in zip(cells, heights, strict=True):
        if height is None:
            parts += ["V100Z"] * is_open
        else:
            parts += [] if is_open else [f"M{_x(cell.left, end)} 100"]
            parts.append(f"V{100 * (1 - height):.1f}H{_x(cell.right, end)}")
        is_open = height is not None
    return "".join(parts + ["V100Z"] * is_open)


def _marks(cells: Sequence[Cell], end: float) -> str:
    return "".join(
        f"M{_x(cell.left, end)} 0H{_x(cell.right, end)}V{STRIP}H{_x(cell.left, end)}Z"
        for cell in cells
        if cell.has_selected
    )


def _x(seconds: float, end: float) -> str:
    return f"{WIDTH * seconds / end:.1f}"


def _axis(length: float, top: int) -> str:
    """Draws labelled ticks over `length` seconds; a single one if `length` is 0."""
    decimals = clock_decimals(length / 10)
    labels = []
    for seconds in axis_times(length):
        share = seconds / length if length else 0.0
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        x = f"{100 * share:.2f}%"
        labels.append(
            f'<line class="tick" x1="{x}" x2="{x}" y1="{top}" y2="{top + 5}"/>'
            f'<text x="{x}" y="{top + 20}" text-anchor="{anchor}">{clock(seconds, decimals)}</text>'
        )
    return "".join(labels)


def axis_times(length: float) -> list[float]:
    """Returns the seconds to label: 0, `length`, and round values that fit on a phone."""
    if not length:
        return [0.0]
    step = next((step for step in STEPS if length / step <= 1 / LABEL), length * LABEL)
    between = [i * step for i in range(1, int(length / step) + 1)]
    return [0.0, *(time for time in between if time <= length * (1 - LABEL)), length]
