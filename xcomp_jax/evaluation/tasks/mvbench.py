"""MVBench (arXiv 2311.17005): 20 tasks of 200 questions on short clips.

Data: `json/<task>.json` of huggingface.co/datasets/OpenGVLab/MVBench, also in
`lmms-eval_videochat/eval_annotations/MVBench` of github.com/OpenGVLab/VideoChat-Flash, and the
unpacked archives of `video/`. Prompt and rule: `lmms-eval_videochat/lmms_eval/tasks/mvbench/`
there.
"""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, choice_readings, letter_at, lvbench_letter
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.evaluation.tables import annotation_files, fields_of, gold_of, require_distinct

CLEVRER, PERCEPTION, STAR = "clevrer/video_validation", "perception/videos", "star/Charades_v1_480"

VIDEO_FOLDERS: dict[str, tuple[str, ...]] = {
    "action_antonym": ("ssv2_video", "ssv2-video"),
    "action_count": (PERCEPTION,),
    "action_localization": ("sta/sta_video",),
    "action_prediction": (STAR,),
    "action_sequence": (STAR,),
    "character_order": (PERCEPTION,),
    "counterfactual_inference": (CLEVRER,),
    "egocentric_navigation": ("vlnqa",),
    "episodic_reasoning": ("tvqa/frames_fps3_hq", "tvqa/video_fps3_hq_segment"),
    "fine_grained_action": ("Moments_in_Time_Raw/videos",),
    "fine_grained_pose": ("nturgbd", "nturgbd_convert"),
    "moving_attribute": (CLEVRER,),
    "moving_count": (CLEVRER,),
    "moving_direction": (CLEVRER,),
    "object_existence": (CLEVRER,),
    "object_interaction": (STAR,),
    "object_shuffle": (PERCEPTION,),
    "scene_transition": ("scene_qa/video", "scene-qa/video"),
    "state_change": (PERCEPTION,),
    "unexpected_action": ("FunQA_test/test", "funqa-test/test", "funqa_test/test"),
}
"""Folder of each task's videos, by task; `DATA_LIST` of the original's harness."""


def load(folder: Path) -> list[Question]:
    files = annotation_files(folder, "json/*.json", "*.json")
    if unknown := sorted(file.name for file in files if file.stem not in VIDEO_FOLDERS):
        raise DataError(
            f"{files[0].parent} holds files that are no tasks of MVBench: {', '.join(unknown)}; "
            f"the tasks are {', '.join(VIDEO_FOLDERS)}"
        )
    return require_distinct(question for file in files for question in _questions(file))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    """Leaves an empty line before the last sentence, as the published prompt."""
    options = "".join(
        f"({letter_at(index)}) {option}\n" for index, option in enumerate(question.options)
    )
    return f"Question: {question.text}\nOption:\n{options}\nOnly give the best option."


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
    folders = tuple(
        f"{base}{folder}" for folder in VIDEO_FOLDERS[task] for base in ("video/", "videos/", "")
    )
    questions = []
    for number, row in enumerate(fields_of(file)):
        options = row.texts("candidates")
        questions.append(
            Question(
                id=f"{task}-{number}",
                video=row.text("video"),
                folders=folders,
                text=row.text("question"),
                options=options,
                gold=gold_of(options, row.text("answer")),
                clip=row.span("start", "end"),
                folder_fps=row.number("fps") if "fps" in row.row else 1.0,
                categories={"task": (task,)},
            )
        )
    return questions


TASK = Task(
    name="mvbench",
    title="MVBench",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="task",
    report_by=("task",),
)
