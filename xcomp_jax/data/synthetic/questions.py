"""Multiple-choice questions about a generated video, answered by one word.

The text of a kind is constant and its answers are balanced (`plan_specs`), so that text alone
reaches an accuracy of 1/4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from xcomp_jax.data.synthetic.video_spec import COLORS, DIRECTIONS, MOMENTS, SHAPES, VideoSpec
from xcomp_jax.text.prompts import VIDEO_MARK

# kind: (question, options, the field of VideoSpec that holds the answer)
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
    """One question; `text` lists all `options`, and `answer` is one of them."""

    kind: str
    text: str
    options: tuple[str, ...]
    answer: str


def questions(spec: VideoSpec, kinds: tuple[str, ...] = KINDS) -> tuple[Question, ...]:
    """Returns the questions of these kinds, in the order of `kinds`.

    Kinds without an answer are left out, such as the flash color of a video without a flash.

    Raises:
        ValueError: a kind is unknown.
    """
    answerable = []
    for kind in kinds:
        if kind not in _KINDS:
            raise ValueError(f"kind={kind!r} is unknown; known: {KINDS}")
        text, options, field = _KINDS[kind]
        answer = getattr(spec, field)
        if answer is not None:
            wording = f"Question: {text} Answer {', '.join(options[:-1])} or {options[-1]}."
            question = Question(kind=kind, text=wording, options=options, answer=answer)
            answerable.append(question)
    return tuple(answerable)


def manifest_row(video: str, conversation: Sequence[Question]) -> dict[str, Any]:
    """Returns one LLaVA-style manifest entry.

    Args:
        video: path of the video in the manifest.
        conversation: its questions in order; the first one determines id, kind and options.
    """
    turns = []
    for question in conversation:
        turns.append({"from": "human", "value": question.text})
        turns.append({"from": "gpt", "value": question.answer})
    turns[0]["value"] = f"{VIDEO_MARK}\n{turns[0]['value']}"
    first = conversation[0]
    return {
        "id": f"{video.rsplit('/', 1)[-1].removesuffix('.mp4')}/{first.kind}",
        "video": video,
        "conversations": turns,
        "kind": first.kind,
        "options": list(first.options),
    }
