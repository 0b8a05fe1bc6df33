"""Draws the scores of a needle benchmark over length and depth, as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xcomp_jax.evaluation.answers import Answered
from xcomp_jax.evaluation.scoring import Mode

COLUMNS = "frames"
"""Kind of category of the columns; the rows are the task's other kind."""

DARK_BELOW = 0.6
"""Score below which a cell's number is white, to be readable on a dark color."""


def heat_map(answered: Iterable[Answered], rows_by: str, mode: Mode, title: str) -> bytes:
    """Returns a PNG of the mean score of every cell, with its number of questions.

    Args:
        rows_by: kind of category of the rows, such as "depth".
    """
    scores: dict[tuple[str, str], list[float]] = {}
    for entry in answered:
        categories = entry.question.categories
        (column,), (row,) = categories[COLUMNS], categories[rows_by]
        scores.setdefault((row, column), []).append(entry.readings[mode].score)
    columns = sorted({column for _, column in scores}, key=int)
    rows = sorted({row for row, _ in scores}, key=_number)
    means = np.full((len(rows), len(columns)), np.nan)
    for (row, column), values in scores.items():
        means[rows.index(row), columns.index(column)] = np.mean(values)
    size = (1.8 + 0.75 * len(columns), 1.6 + 0.5 * len(rows))
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    # viridis is readable in grey and with every common form of color blindness.
    image = axes.imshow(means, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for y, x in np.argwhere(np.isfinite(means)).tolist():
        count = len(scores[rows[y], columns[x]])
        color = "white" if means[y, x] < DARK_BELOW else "black"
        text = f"{100 * means[y, x]:.0f} %\nof {count}"
        axes.text(x, y, text, ha="center", va="center", color=color, fontsize=7)
    axes.set_xticks(range(len(columns)), [f"{int(column):,}" for column in columns])
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="frames of the haystack", ylabel=rows_by, title=title)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"])
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _number(text: str) -> tuple[float, str]:
    """Sorts "20 %" before "100 %", and words by the alphabet."""
    head = text.split(" ")[0]
    return (float(head), "") if head.replace(".", "", 1).isdigit() else (0.0, text)
