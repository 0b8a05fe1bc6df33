"""Tests whether selected frames show what a question is about."""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.evaluation.scoring import Span


def covers(times: Sequence[float], evidence: Sequence[Span], spacing: float = 0.0) -> bool | None:
    """Returns whether a frame lies in one of the annotated spans; None without a span.

    Args:
        times: seconds of the frames.
        evidence: annotated spans in seconds, ends included.
        spacing: seconds between two sampled frames. A span shorter than that, such as a single
            moment, is widened to it around its middle, so that one sampled frame can lie in it.
    """
    if not evidence:
        return None
    return any(
        start <= time <= end
        for start, end in (_widened(span, spacing) for span in evidence)
        for time in times
    )


def even_frames(count: int, selected: int) -> tuple[int, ...]:
    """Returns `selected` of `count` frames, evenly spread: the baseline of a selection."""
    selected = min(selected, count)
    return tuple((2 * index + 1) * count // (2 * selected) for index in range(selected))


def _widened(span: Span, least: float) -> Span:
    start, end = span
    missing = max(0.0, least - (end - start)) / 2
    return start - missing, end + missing
