"""Questions about a generated video, each with one right word out of a stated list.

The text of a kind never changes and its answers are dealt evenly (`plan_specs`), so a reader
without the video is right once in four.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from xcomp_jax.data.synthetic.video_spec import COLORS, DIRECTIONS, MOMENTS, SHAPES, VideoSpec
from xcomp_jax.text.prompts import VIDEO_MARK

# kind: (question, options, the field of VideoSpec that answers it)
_KINDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "color": ("What color is the moving shape?", COLORS, "color"),
    "direction": ("Which way does it move?", DIRECTIONS, "direction"),
    "flash_color": ("What color flashes briefly?", COLORS, "flash_color"),
    "flash_moment": ("When does the flash appear?", MOMENTS, "flash_moment"),
    "shape": ("What shape is moving?", SHAPES, "shape"),
}
KINDS = tuple(_KINDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One question; `answer` is one of `options`, all named in `text`."""

    kind: str
    text: str
    options: tuple[str, ...]
    answer: str


def questions(spec: VideoSpec, kinds: tuple[str, ...] = KINDS) -> tuple[Question, ...]:
    """The questions of these kinds that the video can answer, in the order of `kinds`.

    A video without a flash is not asked for the colour of the flash.

    Raises:
        ValueError: for an unknown kind.
    """
    asked = []
    for kind in kinds:
        if kind not in _KINDS:
            raise ValueError(f"kind={kind!r} is unknown; known: {KINDS}")
        text, options, field = _KINDS[kind]
        answer = getattr(spec, field)
        if answer is not None:
            wording = f"Question: {text} Answer {', '.join(options[:-1])} or {options[-1]}."
            asked.append(Question(kind=kind, text=wording, options=options, answer=answer))
    return tuple(asked)


def manifest_row(video: str, asked: Sequence[Question]) -> dict[str, Any]:
    """One LLaVA-style entry, the form in which the original's training data comes.

    Several questions make one conversation about the video; the first one names the row.
    """
    turns = []
    for question in asked:
        turns.append({"from": "human", "value": question.text})
        turns.append({"from": "gpt", "value": question.answer})
    turns[0]["value"] = f"{VIDEO_MARK}\n{turns[0]['value']}"
    return {
        "id": f"{video.rsplit('/', 1)[-1].removesuffix('.mp4')}/{asked[0].kind}",
        "video": video,
        "conversations": turns,
        "kind": asked[0].kind,
        "options": list(asked[0].options),
    }
