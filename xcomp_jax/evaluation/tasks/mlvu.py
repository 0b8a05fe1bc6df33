"""MLVU dev (arXiv 2406.04264), multiple choice: seven tasks on videos of minutes to hours.

Data: `json/1_plotQA.json` to `json/7_topic_reasoning.json` of huggingface.co/datasets/MLVU/MVLU,
also in `lmms-eval_videochat/eval_annotations/MLVU_MC` of github.com/OpenGVLab/VideoChat-Flash.
Prompt and rule: `lmms-eval_videochat/lmms_eval/tasks/mlvu_mc/utils.py` there.

The published 66.7 of XComp is the mean over questions (micro). The benchmark's own M-Avg is the
mean of the seven task accuracies (macro): 64.0 for the same answers. Reports give both.
"""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, choice_readings, letter_at, lvbench_letter
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.evaluation.tables import annotation_files, fields_of, gold_of, require_distinct


def load(folder: Path) -> list[Question]:
    """Reads one file per task; its name without `.json` is the task."""
    files = annotation_files(folder, "json/[1-7]_*.json", "[1-7]_*.json", "MLVU/json/[1-7]_*.json")
    return require_distinct(question for file in files for question in _questions(file))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    options = "".join(
        f"({letter_at(index)}) {option}\n" for index, option in enumerate(question.options)
    )
    return (
        f"Question:{question.text}\nOption:\n{options}"
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


def _questions(file: Path) -> list[Question]:
    task = file.stem
    questions = []
    for number, row in enumerate(fields_of(file)):
        options = row.texts("candidates")
        questions.append(
            Question(
                id=f"{task}-{number}",
                video=row.text("video"),
                folders=tuple(f"{base}{task}" for base in ("MLVU/video/", "video/", "videos/", "")),
                text=row.text("question"),
                options=options,
                gold=gold_of(options, row.text("answer")),
                duration=row.number("duration"),
                categories={"task": (task,)},
            )
        )
    return questions


TASK = Task(
    name="mlvu",
    title="MLVU dev",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="task",
    report_by=("task",),
)
