"""PerceptionTest validation (arXiv 2305.13786), multiple choice: three options per question.

Data: `mc_question_val/validation-*.parquet` of huggingface.co/datasets/lmms-lab/PerceptionTest_Val
and its videos, or `mc_question_valid.json` of github.com/google-deepmind/perception_test. Prompt
and rule: `lmms-eval_videochat/lmms_eval/tasks/perceptiontest/val/utils.py` of
github.com/OpenGVLab/VideoChat-Flash.
"""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, choice_readings, perceptiontest_letter
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.evaluation.tables import (
    Fields,
    annotation_files,
    entries_by_video,
    fields_of,
    require_distinct,
)

LETTERS = "ABC"


def load(folder: Path) -> list[Question]:
    files = annotation_files(
        folder,
        "mc_question_val/validation-*.parquet",
        "validation-*.parquet",
        "**/mc_question_valid.json",
    )
    return require_distinct(_question(row) for file in files for row in _rows(file))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    """Starts with an empty line; all options from the third on are labelled C, as published."""
    options = "".join(
        f"\n({LETTERS[min(index, 2)]}). {option}" for index, option in enumerate(question.options)
    )
    return f"\nQuestion: {question.text}{options}\nOnly give the best option."


def read(question: Question, answer: str) -> Readings:
    return choice_readings(
        answer, question.options, question.gold, lambda text, _: perceptiontest_letter(text)
    )


def _rows(file: Path) -> list[Fields]:
    """Reads rows of either layout."""
    if file.suffix == ".parquet":
        return fields_of(file)
    rows = [
        {**entry, "video_name": video, "question_id": entry.get("id")}
        for video, name, entry in entries_by_video(file)
        if name == "mc_question"
    ]
    return [Fields(row, file, index) for index, row in enumerate(rows)]


def _question(row: Fields) -> Question:
    options = row.texts("options")
    gold = row.integer("answer_id")
    return Question(
        id=f"{row.text('video_name')}-{row.text('question_id')}",
        video=row.text("video_name"),
        folders=("videos", "video", ""),
        text=row.text("question"),
        options=options,
        gold=gold if 0 <= gold < len(options) else None,
        categories={
            "area": (row.text("area"),),
            "reasoning": (row.text("reasoning"),),
            "tag": row.texts("tag"),
        },
    )


TASK = Task(
    name="perceptiontest",
    title="PerceptionTest val",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="area",
    report_by=("area", "reasoning"),
)
