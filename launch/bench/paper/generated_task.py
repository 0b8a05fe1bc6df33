"""Questions of the generated task as a benchmark: the answer is right if its text is equal."""

from __future__ import annotations

import json
from pathlib import Path

from xcomp_jax.config import ProtocolConfig, SamplingConfig
from xcomp_jax.data.synthetic.generate import VIDEO_FOLDER
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.scoring import MODES, Reading, Readings
from xcomp_jax.evaluation.scoring.reading import status_of
from xcomp_jax.evaluation.subtitles import Subtitles
from xcomp_jax.files import read_text
from xcomp_jax.text.prompts import VIDEO_MARK

BENCHMARK = "generated"


def load(folder: Path) -> list[Question]:
    """Reads `questions.json`, entries as of `data.synthetic.scene_sets`."""
    return [
        Question(
            id=entry["id"],
            video=Path(entry["video"]).name,
            folders=(VIDEO_FOLDER,),
            text=entry["conversations"][0]["value"].replace(VIDEO_MARK, "").strip(),
            options=tuple(entry["options"]),
            gold=entry["options"].index(entry["conversations"][1]["value"]),
            categories={"kind": (entry["kind"],)},
            evidence=tuple((start, end) for start, end in entry.get("evidence", ())),
        )
        for entry in json.loads(read_text(folder / "questions.json"))
    ]


def prompt(question: Question, subtitles: Subtitles | None = None) -> str:
    return question.text


def read(question: Question, answer: str) -> Readings:
    """Reads an option's text, whatever the mode."""
    assert question.gold is not None
    parsed = answer.strip() if answer.strip() in question.options else ""
    score = float(parsed == question.options[question.gold])
    reading = Reading(parsed, score, status_of(answer, parsed), expected=score)
    return dict.fromkeys(MODES, reading)


TASK = Task(
    name=BENCHMARK,
    title="generated scenes",
    load=load,
    prompt=prompt,
    read=read,
    macro_over="kind",
    report_by=("kind",),
)


def protocol(sampling: SamplingConfig) -> ProtocolConfig:
    """Returns greedy answers of up to 4 tokens, without a repetition penalty."""
    return ProtocolConfig(
        benchmark=BENCHMARK,
        system="tiny model",
        sampling=sampling,
        max_new_tokens=4,
        repetition_penalty=1.0,
    )
