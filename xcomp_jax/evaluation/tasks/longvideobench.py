"""LongVideoBench validation (arXiv 2407.15754): questions on 753 videos of 8 seconds to an hour.

Data: `validation-00000-of-00001.parquet` or `lvb_val.json` of
huggingface.co/datasets/longvideobench/LongVideoBench, its `videos` and `subtitles`. Prompt and
rule: `lmms-eval_videochat/lmms_eval/tasks/longvideobench/utils.py` of
github.com/OpenGVLab/VideoChat-Flash. There the subtitles are part of every prompt; lmms-eval's own
video task has none.
"""

from __future__ import annotations

import bisect
from pathlib import Path

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, choice_readings, letter_at, longvideobench_letter
from xcomp_jax.evaluation.subtitles import Subtitles, read_longvideobench
from xcomp_jax.evaluation.tables import Fields, annotation_files, fields_of, require_distinct

SUBTITLE_FRAMES = 512
"""Moments at which the prompt looks for a subtitle, whatever number of frames the model sees."""

MAX_OPTIONS = 5
ABSENT = "N/A"


def load(folder: Path) -> list[Question]:
    """Reads the validation questions; the test set has no answers."""
    files = annotation_files(
        folder, "validation-*.parquet", "data/validation-*.parquet", "lvb_val.json"
    )
    return require_distinct(_question(row) for file in files for row in fields_of(file))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    """Lists the subtitles before the question; with `subtitles=None`, as in lmms-eval, none.

    Raises:
        DataError: the subtitle file is missing.
    """
    options = "\n".join(
        f"({letter_at(index)}). {option}" for index, option in enumerate(question.options)
    )
    text = f"{question.text}\n{options}\n"
    final = "Answer with the option's letter from the given choices directly.\n"
    if subtitles is None:
        return text + final
    if subtitles.missing:
        raise DataError(
            f"question {question.id}: the subtitle file {question.subtitles} is missing; extract "
            "subtitles.tar in the data folder, or run without subtitles"
        )
    lines = "\n".join(listed_subtitles(question, subtitles))
    return (
        f" This video's subtitles are listed below: \n{lines}.\n Select the best answer to the "
        "following multiple-choice question based on the video and the subtitles. Respond with "
        f"only the letter of the correct option.\nQuestion: {text}{final}"
    )


def listed_subtitles(question: Question, subtitles: Subtitles) -> list[str]:
    """Returns the texts shown at one of the moments of `subtitle_moments`.

    Spans below a second are widened to a second. An unknown end is the end of the video.
    """
    moments = subtitle_moments(question.duration or 0.0)
    texts = []
    for entry in subtitles.entries:
        last = (question.duration or 0.0) if entry.end is None else entry.end
        start, end = entry.start - question.subtitle_start, last - question.subtitle_start
        if end - start < 1:
            middle = (start + end) / 2
            start, end = middle - 0.5, middle + 0.5
        after_start = bisect.bisect_right(moments, start)
        if after_start < len(moments) and moments[after_start] < end:
            texts.append(entry.text)
    return texts


def subtitle_moments(duration: float) -> list[float]:
    """Returns 512 evenly spaced moments, or every whole second of a video up to 512 s."""
    if duration > SUBTITLE_FRAMES:
        return [duration / SUBTITLE_FRAMES * index for index in range(SUBTITLE_FRAMES)]
    return [float(second) for second in range(int(duration))]


def read(question: Question, answer: str) -> Readings:
    """Scores an answer; the reference mode's random option depends on the question's id alone."""
    return choice_readings(
        answer, question.options, question.gold, longvideobench_letter, random_key=question.id
    )


def _question(row: Fields) -> Question:
    if "candidates" in row.row:
        options = row.texts("candidates")
    else:
        listed = [row.text(f"option{index}") for index in range(MAX_OPTIONS)]
        options = tuple(option for option in listed if option != ABSENT)
    choice = row.integer("correct_choice")
    subtitles = row.text("subtitle_path")
    if not subtitles.endswith("_en.json"):
        subtitles = subtitles.replace(".json", "_en.json")
    return Question(
        id=row.text("id"),
        video=row.text("video_path"),
        folders=("videos", "video", ""),
        text=row.text("question"),
        options=options,
        gold=choice if 0 <= choice < len(options) else None,
        duration=row.number("duration"),
        categories={
            "duration": (row.text("duration_group"),),
            "question": (row.text("question_category"),),
            "topic": (row.text("topic_category"),),
        },
        subtitles=f"subtitles/{subtitles}",
        subtitle_start=row.number("starting_timestamp_for_subtitles"),
    )


TASK = Task(
    name="longvideobench",
    title="LongVideoBench val",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="duration",
    report_by=("duration", "question", "topic"),
    read_subtitles=read_longvideobench,
)
