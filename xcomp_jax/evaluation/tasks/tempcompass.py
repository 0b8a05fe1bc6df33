"""TempCompass (arXiv 2403.00476), multiple choice: speed, direction, order and the like.

Data: `multi-choice/test-*.parquet` of huggingface.co/datasets/lmms-lab/TempCompass and its videos,
or `questions/multi-choice.json` of github.com/llyx97/TempCompass, by video and dimension.
Prompt: `lmms_eval/tasks/tempcompass/` of github.com/EvolvingLMMs-Lab/lmms-eval. That code passes
answers without a leading letter to a language model; here they count as unparsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, choice_readings, letter_at
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.evaluation.tables import (
    Fields,
    annotation_files,
    entries_by_video,
    fields_of,
    require_distinct,
)


def load(folder: Path) -> list[Question]:
    files = annotation_files(
        folder,
        "multi-choice/test-*.parquet",
        "test-*.parquet",
        "questions/multi-choice.json",
        "multi-choice.json",
    )
    rows = [row for file in files for row in _rows(file)]
    return require_distinct(_question(number, row) for number, row in enumerate(rows))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    options = "\n".join(question.options)
    return f"{question.text}\n{options}\nPlease directly give the best option:"


def published_letter(answer: str, options: Sequence[str]) -> str:
    """Reads a whole option, a bare capital A to D, or one followed by "." or ")"."""
    if answer in options:
        return letter_at(options.index(answer))
    is_label = answer[:1] in tuple("ABCD") and answer[1:2] in ("", ".", ")")
    return answer[0] if is_label else ""


def read(question: Question, answer: str) -> Readings:
    return choice_readings(answer, question.options, question.gold, published_letter)


def _rows(file: Path) -> list[Fields]:
    """Reads rows of either layout."""
    if file.suffix == ".parquet":
        return fields_of(file)
    rows = [
        {**entry, "video_id": video, "dim": dimension}
        for video, dimension, entry in entries_by_video(file)
    ]
    return [Fields(row, file, index) for index, row in enumerate(rows)]


def _question(number: int, row: Fields) -> Question:
    text, *options = row.text("question").split("\n")
    answer = row.text("answer")
    return Question(
        id=f"multi-choice-{number}",
        video=row.text("video_id"),
        folders=("videos", "video", ""),
        text=text,
        options=tuple(options),
        gold=options.index(answer) if answer in options else None,
        categories={"dimension": (row.text("dim"),)},
    )


TASK = Task(
    name="tempcompass",
    title="TempCompass multiple choice",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="dimension",
    report_by=("dimension",),
)
