"""Builds the row of an answered question, or of one that failed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from xcomp_jax.evaluation.coverage import covers, even_frames
from xcomp_jax.evaluation.question import Question, Task, prompt_hash
from xcomp_jax.evaluation.rows import Row
from xcomp_jax.evaluation.scoring import Span, letter_at


def answer_row(
    task: Task,
    question: Question,
    *,
    key: str,
    prompt: str,
    answer: str,
    frame_times: Sequence[float],
    selected_frames: Sequence[int] | None = None,
    evidence: Sequence[Span] | None = None,
    seconds: float = 0.0,
) -> Row:
    """Scores an answer in all modes and tests which frames lie in the annotated spans.

    Args:
        key: `rows.row_key` of everything the answer depends on.
        frame_times: true seconds of the sampled frames. A folder of images needs its duration for
            them (`<folder>.json`).
        selected_frames: indices into the sampled frames; None if all were kept.
        evidence: spans that hold the answer (default: those annotated).
        seconds: time that the question took.
    """
    readings = task.read(question, answer)
    return Row(
        key=key,
        benchmark=task.name,
        id=question.id,
        video=question.video,
        prompt_hash=prompt_hash(prompt),
        frames=len(frame_times),
        answer=answer,
        gold=gold_text(question),
        selected_frames=None if selected_frames is None else tuple(selected_frames),
        covered=covered_spans(
            question.evidence if evidence is None else evidence, frame_times, selected_frames
        ),
        parsed={mode: reading.parsed for mode, reading in readings.items()},
        scores={mode: reading.score for mode, reading in readings.items()},
        seconds=seconds,
        time=time.time(),
    )


def failed_row(task: Task, question: Question, *, key: str, error: str) -> Row:
    """Returns the row of a question that could not be answered, such as about a broken video."""
    return Row(
        key=key,
        benchmark=task.name,
        id=question.id,
        video=question.video,
        prompt_hash="",
        frames=0,
        answer="",
        gold=gold_text(question),
        time=time.time(),
        error=error,
    )


def gold_text(question: Question) -> str:
    """Returns the gold letter or span as text, empty without one."""
    if question.span is not None:
        return f"{question.span[0]:g}-{question.span[1]:g}"
    return "" if question.gold is None else letter_at(question.gold)


def covered_spans(
    evidence: Sequence[Span], frame_times: Sequence[float], selected_frames: Sequence[int] | None
) -> dict[str, bool]:
    """Returns `Row.covered`: whether sampled, selected and evenly spread frames lie in a span."""
    count = len(frame_times)
    chosen: dict[str, Sequence[int]] = {"sampled": range(count)}
    if selected_frames is not None:
        chosen |= {"selected": selected_frames, "even": even_frames(count, len(selected_frames))}
    spacing = (frame_times[-1] - frame_times[0]) / (count - 1) if count > 1 else 0.0
    covered = {
        name: covers([frame_times[index] for index in indices], evidence, spacing)
        for name, indices in chosen.items()
    }
    return {name: value for name, value in covered.items() if value is not None}
