"""Builds the token ids of a conversation whose turns have any role, around one video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xcomp_jax.text.chatml import (
    SYSTEM,
    Mark,
    Part,
    Turn,
    encode_parts,
    split_at_video,
    turn_parts,
)
from xcomp_jax.text.inference_prompt import question_parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], video_turn: int, time_message: str
) -> tuple[list[int], list[int]]:
    """Returns the ids before and after the video, up to the open assistant header.

    Equals `inference_ids` for a question with its history. Everything written in a turn is text:
    characters that spell a special token do not become one.

    Args:
        turns: without a system turn, the model's own is added.
        video_turn: index of the user turn that begins with the video and the time message.
    """
    parts: list[Part] = []
    if turns[0].role != "system":
        parts += turn_parts("system", [SYSTEM])
    for number, turn in enumerate(turns):
        is_video = number == video_turn
        content = question_parts(turn.content, time_message) if is_video else [turn.content]
        parts += turn_parts(turn.role, content)
    return split_at_video(encode_parts(tokenizer, [*parts, Mark.START, "assistant\n"]))
