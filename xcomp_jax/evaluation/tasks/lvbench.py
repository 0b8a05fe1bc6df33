"""LVBench (arXiv 2406.08035): four-option questions on videos of 30 minutes to over two hours.

Data: `json/lvbench_clean_*.json` of github.com/OpenGVLab/VideoChat-Flash or of
github.com/ZheyuAqaZhang/XComp (`lmms-eval_videochat/eval_*/LVBench`), or `video_info.meta.jsonl` of
huggingface.co/datasets/THUDM/LVBench. They differ in the number of questions: 1,519, 1,492 and
1,549 (`question_sets.py`). Prompt and rule: `lmms-eval_videochat/lmms_eval/tasks/lvbench/utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, Span, choice_readings, letter_at, lvbench_letter
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.evaluation.tables import (
    Fields,
    annotation_files,
    fields_of,
    gold_of,
    lettered_gold,
    require_distinct,
)

FOLDERS = ("frames", "lvbench_images_4096", "videos", "all_videos", "")
OPTION_LINE = re.compile(r"\n\s*(?=\([A-Z]\))")
MOMENT = re.compile(r"(?:(\d+):)?(\d+):(\d{2})")


def load(folder: Path) -> list[Question]:
    """Reads the per-type files, the file of all types, or the original's JSON lines."""
    files = annotation_files(
        folder,
        "json/lvbench_clean_*.json",
        "lvbench_clean_*.json",
        "json/lvbench_clean.json",
        "lvbench_clean.json",
        "**/video_info.meta.jsonl",
    )
    is_original = files[0].suffix == ".jsonl"
    read = _original_questions if is_original else _questions
    return require_distinct(question for file in files for question in read(file))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    """Puts a letter before each option although the option has one already."""
    options = "".join(
        f"{letter_at(index)}. {option}\n" for index, option in enumerate(question.options)
    )
    return (
        f"{question.text}\n{options}"
        "Answer with the option's letter from the given choices directly."
    )


def read(question: Question, answer: str) -> Readings:
    return choice_readings(
        answer,
        question.options,
        question.gold,
        lambda text, _: lvbench_letter(text),
        skips_empty=True,
    )


def time_span(text: str) -> Span | None:
    """Converts `mm:ss-mm:ss` to seconds; None if an end is unknown or before the start.

    Of the 1,519 questions, 2 have `None` for a time, and 13 end before they start.
    """
    moments = [
        int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
        for hours, minutes, seconds in MOMENT.findall(text)
    ]
    if len(moments) != 2 or moments[1] < moments[0]:
        return None
    return float(moments[0]), float(moments[1])


def _questions(file: Path) -> Iterator[Question]:
    counts: dict[str, int] = {}
    for row in fields_of(file):
        kind, options = row.text("type"), row.texts("candidates")
        number = counts[kind] = counts.get(kind, -1) + 1
        yield _question(
            f"{kind}-{number}", row, kind, options, gold_of(options, row.text("answer"))
        )


def _original_questions(file: Path) -> Iterator[Question]:
    """Reads one video per line; a question holds its options, one per line."""
    for video in fields_of(file):
        for index, entry in enumerate(video.row.get("qa") or ()):
            row = Fields({**entry, "video": video.text("key")}, file, index)
            text, *options = OPTION_LINE.split(row.text("question"))
            gold = lettered_gold(row.text("answer"), len(options))
            row = Fields({**row.row, "question": text.strip()}, file, index)
            uid = str(entry.get("uid", f"{video.text('key')}-{index}"))
            stripped = tuple(option.strip() for option in options)
            yield _question(uid, row, video.text("type"), stripped, gold)


def _question(
    identity: str, row: Fields, kind: str, options: tuple[str, ...], gold: int | None
) -> Question:
    span = time_span(row.text("time_reference"))
    return Question(
        id=identity,
        video=row.text("video"),
        folders=FOLDERS,
        text=row.text("question"),
        options=options,
        gold=gold,
        categories={"type": (kind,), "question_type": row.texts("question_type")},
        evidence=() if span is None else (span,),
    )


TASK = Task(
    name="lvbench",
    title="LVBench",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="type",
    report_by=("type", "question_type"),
)
