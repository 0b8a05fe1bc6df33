"""Builds the inference prompt: system turn, conversation, and the open assistant header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xcomp_jax.text.chatml import (
    END,
    SYSTEM,
    Mark,
    Part,
    VideoPosition,
    encode_parts,
    turn_parts,
    unknown_position,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def question_parts(
    question: str, time_message: str, video_position: VideoPosition = "first"
) -> list[Part]:
    """Returns the first user message, including the video mark."""
    message = f"{time_message.strip()} " if time_message.strip() else ""
    match video_position:
        case "first":
            return [Mark.VIDEO, f"\n{message}{question}"]
        case "last":
            return [f"{question}\n{message}", Mark.VIDEO]
        case "middle":
            return [f"{question} ", Mark.VIDEO, f"\n{message}{question}"]
        case _:
            raise unknown_position(video_position)


def inference_parts(
    question: str,
    time_message: str,
    history: Sequence[tuple[str, str]] = (),
    *,
    video_position: VideoPosition = "first",
) -> list[Part]:
    """Returns the whole prompt as marks and texts, up to the open assistant header.

    Args:
        question: the new question.
        time_message: sentence on duration and frame count (`FramePlan.message`). Like the video, it
            is part of the conversation's first question only.
        history: earlier (question, answer) pairs.
        video_position: position of the video in the first question.
    """
    questions = [*(earlier for earlier, _ in history), question]
    parts = turn_parts("system", [SYSTEM])
    for number, text in enumerate(questions):
        is_first = number == 0
        parts += turn_parts(
            "user", question_parts(text, time_message, video_position) if is_first else [text]
        )
        if number < len(history):
            parts += turn_parts("assistant", [history[number][1]])
    return [*parts, Mark.START, "assistant\n"]


def inference_ids(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    time_message: str,
    history: Sequence[tuple[str, str]] = (),
    *,
    video_position: VideoPosition = "first",
) -> list[int]:
    """Encodes `inference_parts`, with VIDEO_PLACEHOLDER at the video mark.

    Questions and answers are encoded as text, so that nothing written in them opens or ends a turn.
    """
    parts = inference_parts(question, time_message, history, video_position=video_position)
    return encode_parts(tokenizer, parts)


def answer_text(generated: str) -> str:
    """Strips the closing token and surrounding white space from generated text."""
    return generated.strip().removesuffix(END).strip()
