"""Charades-STA (arXiv 1705.02101): when does the described event happen?

Data: `json/temporal_grounding_charades.json` (`lmms-eval_videochat/eval_annotations/` of
github.com/OpenGVLab/VideoChat-Flash) and the videos of Charades. Prompt and rule:
`lmms-eval_videochat/lmms_eval/tasks/temporal_grounding/` there.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, Span, span_readings
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.evaluation.tables import Fields, annotation_files, fields_of, require_distinct


def load(folder: Path) -> list[Question]:
    (file, *_) = annotation_files(
        folder, "json/temporal_grounding_charades.json", "temporal_grounding_charades.json"
    )
    return require_distinct(_question(number, row) for number, row in enumerate(fields_of(file)))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    """Keeps the published spelling ("seonds") and the second dot after the caption."""
    return (
        "Please find the visual event described by a sentence in the video, determining its "
        "starting and ending times. The format should be: 'The event happens in the start time - "
        "end time'. For example, The event 'person turn a light on' happens in the 24.3 - 30.4 "
        f"seonds. Now I will give you the textual sentence: {question.text}. Please return its "
        "start time and end time."
    )


def read(question: Question, answer: str) -> Readings:
    assert question.span is not None
    return span_readings(answer, question.span)


def _question(number: int, row: Fields) -> Question:
    span = _span(row)
    return Question(
        id=f"charades-{number}",
        video=row.text("video"),
        folders=("videos", "video", "Charades_v1_480", "Charades", ""),
        text=row.text("caption"),
        span=span,
        categories={"length": (_length(span[1] - span[0]),)},
        evidence=(span,),
    )


def _span(row: Fields) -> Span:
    times = row.row.get("timestamp")
    if isinstance(times, list | tuple) and len(times) == 2:
        with contextlib.suppress(TypeError, ValueError):
            start, end = float(times[0]), float(times[1])
            if 0 <= start < end < math.inf:
                return start, end
    raise DataError(
        f"{row.where}: field 'timestamp' is {times!r}, expected [start, end] in seconds"
    )


def _length(seconds: float) -> str:
    return "below 5 s" if seconds < 5 else "5 to 10 s" if seconds < 10 else "10 s or more"


TASK = Task(
    name="charades",
    title="Charades-STA",
    load=load,
    prompt=prompt,
    read=read,
    metric="grounding",
    macro_over="length",
    report_by=("length",),
)
