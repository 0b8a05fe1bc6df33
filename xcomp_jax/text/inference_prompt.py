"""Builds the inference prompt: system turn, conversation, and the open assistant header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xcomp_jax.text.chatml import (
    END,
    START,
    SYSTEM,
    VIDEO_MARK,
    Turn,
    VideoPosition,
    encode_with_video,
    unknown_position,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def question_text(question: str, time_message: str, video_position: VideoPosition = "first") -> str:
    """Formats the first user message, including the video mark."""
    message = f"{time_message.strip()} " if time_message.strip() else ""
    match video_position:
        case "first":
            return f"{VIDEO_MARK}\n{message}{question}"
        case "last":
            return f"{question}\n{message}{VIDEO_MARK}"
        case "middle":
            return f"{question} {VIDEO_MARK}\n{message}{question}"
        case _:
            raise unknown_position(video_position)


def inference_text(
    question: str,
    time_message: str,
    history: Sequence[tuple[str, str]] = (),
    *,
    video_position: VideoPosition = "first",
) -> str:
    """Formats the whole prompt as text, up to the open assistant header.

    Args:
        question: the new question.
        time_message: sentence on duration and frame count (`FramePlan.message`). Like the video, it
            is part of the conversation's first question only.
        history: earlier (question, answer) pairs.
        video_position: position of the video in the first question.
    """
    questions = [*(earlier for earlier, _ in history), question]
    turns = [Turn("system", SYSTEM)]
    for number, text in enumerate(questions):
        is_first = number == 0
        content = question_text(text, time_message, video_position) if is_first else text
        turns.append(Turn("user", content))
        if number < len(history):
            turns.append(Turn("assistant", history[number][1]))
    return "".join(turn.text for turn in turns) + f"{START}assistant\n"


def inference_ids(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    time_message: str,
    history: Sequence[tuple[str, str]] = (),
    *,
    video_position: VideoPosition = "first",
) -> list[int]:
    """Encodes `inference_text`, with VIDEO_PLACEHOLDER at the video mark.

    Raises:
        ValueError: a question or answer contains the video mark itself.
    """
    text = inference_text(question, time_message, history, video_position=video_position)
    if text.count(VIDEO_MARK) != 1:
        raise ValueError(
            f"questions and answers must not contain {VIDEO_MARK!r}, which stands for the video: "
            f"found {text.count(VIDEO_MARK) - 1} in addition to the prompt's own; remove them"
        )
    return encode_with_video(tokenizer, text)


def answer_text(generated: str) -> str:
    """Strips the closing token and surrounding white space from generated text."""
    return generated.strip().removesuffix(END).strip()
