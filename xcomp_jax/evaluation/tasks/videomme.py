"""Video-MME (arXiv 2405.21075): 2,700 four-option questions on 900 videos, three per video.

Data: `videomme/test-00000-of-00001.parquet` of huggingface.co/datasets/lmms-lab/Video-MME, its
videos (zipped as `data/<id>.mp4`) and its subtitles (`subtitle/<id>.srt`). Prompt and rule:
`lmms-eval_videochat/lmms_eval/tasks/videomme/utils.py` of github.com/OpenGVLab/VideoChat-Flash.
github.com/ZheyuAqaZhang/XComp reads extracted frames, up to 2,048 per video (`images_2048/<id>`).
"""

from __future__ import annotations

import re
from pathlib import Path

from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import Readings, choice_readings, videomme_letter
from xcomp_jax.evaluation.subtitles import Subtitles, plain_text, read_srt
from xcomp_jax.evaluation.tables import (
    Fields,
    annotation_files,
    fields_of,
    lettered_gold,
    require_distinct,
)

TASKS = {
    False: "These are the frames of a video. Select the best answer to the following "
    "multiple-choice question based on the video. Respond with only the letter (A, B, C, or D) of "
    "the correct option.",
    True: "These are the frames and subtitles of a video. Select the best answer to the following "
    "multiple-choice question based on the video and the subtitles. Respond with only the letter "
    "(A, B, C, or D) of the correct option.",
}
"""First sentences of the prompt, by whether it lists subtitles."""

SUBTITLE = re.compile(r'<font color="white" size=".72c">(.*?)</font>')


def load(folder: Path) -> list[Question]:
    files = annotation_files(
        folder, "videomme/test-*.parquet", "test-*.parquet", "data/test-*.parquet"
    )
    return require_distinct(_question(row) for file in files for row in fields_of(file))


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    """Builds either wording; subtitles that are missing or without text give the plain sentence.

    With subtitles the prompt then starts with an empty line and ends in "The best answer is:", as
    in the published code.
    """
    options = "\n".join(question.options)
    block = f"Question: {question.text}\nOption:\n{options}"
    if subtitles is None:
        final = "\nAnswer with the option's letter from the given choices directly."
        return f"{TASKS[False]}\n{block}{final}"
    text = "\n".join(subtitle_texts(subtitles))
    before = "" if subtitles.missing else "This video's subtitles are listed below: \n"
    return f"{before}{text}\n{TASKS[bool(text)]}\n{block}\nThe best answer is:"


def subtitle_texts(subtitles: Subtitles) -> list[str]:
    """Returns the text inside the white font tag, the first per line, as the published code.

    A file without font tags, of another source than the benchmark, gives its plain text instead of
    nothing.
    """
    texts = [entry.text for entry in subtitles.entries]
    if not any("<font" in text for text in texts):
        return [plain for text in texts if (plain := plain_text(text))]
    lines = [line for text in texts for line in text.split("\n")]
    return [match[1] for line in lines if (match := SUBTITLE.search(line))]


def read(question: Question, answer: str) -> Readings:
    return choice_readings(
        answer, question.options, question.gold, lambda text, _: videomme_letter(text)
    )


def _question(row: Fields) -> Question:
    options = row.texts("options")
    return Question(
        id=row.text("question_id"),
        video=row.text("videoID"),
        folders=("images_2048", "videos", "data", "video", ""),
        text=row.text("question"),
        options=options,
        gold=lettered_gold(row.text("answer"), len(options)),
        categories={
            "duration": (row.text("duration"),),
            "domain": (row.text("domain"),),
            "sub_category": (row.text("sub_category"),),
            "task_type": (row.text("task_type"),),
        },
        subtitles=f"subtitle/{row.text('videoID')}.srt",
    )


TASK = Task(
    name="videomme",
    title="Video-MME",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="duration",
    report_by=("duration", "domain", "task_type", "sub_category"),
    read_subtitles=read_srt,
)
