"""Builds the token ids and labels of a training conversation.

The training prompt has one newline before the question that the inference prompt lacks. The
original does so, and both are kept (docs/reference_behaviour.md#prompts).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xcomp_jax.text.chatml import (
    IGNORE,
    SYSTEM,
    VIDEO_MARK,
    ChatIds,
    Mark,
    Part,
    Turn,
    VideoPosition,
    encode_parts,
    turn_parts,
    unknown_position,
)
from xcomp_jax.text.inference_prompt import question_parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOISE = "QA_GT_caption_based_noisy"
"""Stray label in some public instruction data; the original removes it from every turn."""


def training_example(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Mapping[str, str]],
    time_message: str,
    *,
    video_position: VideoPosition = "first",
) -> tuple[list[int], list[int]]:
    """Returns (input_ids, labels) of one conversation, of equal length.

    Follows the original's `preprocess_qwen` (`llava/train/train.py`). Labels keep the answers with
    header and closing token, and every newline, <|im_start|> and <|im_end|> anywhere; all others
    are IGNORE. An answer that opens the conversation is dropped. Texts are encoded as text, a
    departure (docs/departures.md): the original reads special tokens that are written in them.

    Raises:
        ValueError: more than one video mark, or no turn.
    """
    turns = training_turns(conversations, time_message, video_position=video_position)
    if turns and turns[0].role != "user":
        turns = turns[1:]
    if not turns:
        raise ValueError("a conversation needs at least one turn after a leading answer is dropped")
    marks = sum(turn.content.count(VIDEO_MARK) for turn in turns)
    if marks > 1:
        raise ValueError(f"a sample holds at most one {VIDEO_MARK!r}, this one has {marks}")
    input_ids: list[int] = []
    is_answer: list[bool] = []
    for turn in (Turn("system", SYSTEM), *turns):
        ids = encode_parts(tokenizer, turn_parts(turn.role, _content_parts(turn.content)))
        input_ids += ids
        is_answer += [turn.role == "assistant"] * len(ids)
    return input_ids, labels_of(input_ids, is_answer, ChatIds.of(tokenizer))


def training_turns(
    conversations: Sequence[Mapping[str, str]],
    time_message: str,
    *,
    video_position: VideoPosition = "first",
) -> list[Turn]:
    """Parses the turns of a sample (original: `preprocess_multimodal`), without the system turn.

    A video mark inside a turn moves to its start, and the time message is inserted at the mark.
    Turns are {"from": "human" | "gpt", "value": ...} or {"role": "user" | "assistant",
    "content": ...}.
    """
    return [
        Turn(_role(entry), _with_time(_content(entry), time_message, video_position))
        for entry in conversations
    ]


def as_inference_turns(
    conversations: Sequence[Mapping[str, str]], time_message: str
) -> list[dict[str, str]]:
    """Rewrites a conversation so that its prompt equals the inference prompt token by token.

    Drops the turns before the first question and formats that question by `question_parts`. Pass
    the result to `training_example` with an empty time message.

    Raises:
        ValueError: an entry is not a turn.
    """
    turns = [Turn(_role(entry), _content(entry)) for entry in conversations]
    turns = [*itertools.dropwhile(lambda turn: turn.role != "user", turns)]
    if turns:
        question = turns[0].content.replace(VIDEO_MARK, "").strip()
        turns[0] = Turn("user", "".join(question_parts(question, time_message)))
    return [dataclasses.asdict(turn) for turn in turns]


def labels_of(input_ids: Sequence[int], is_answer: Sequence[bool], chat: ChatIds) -> list[int]:
    """Returns `input_ids` for answers and ChatML scaffolding, IGNORE elsewhere."""
    scaffolding = (chat.newline, chat.start, chat.end)
    return [
        token if answer or token in scaffolding else IGNORE
        for token, answer in zip(input_ids, is_answer, strict=True)
    ]


def _content_parts(content: str) -> list[Part]:
    first, *others = content.split(VIDEO_MARK)
    return [first, *(part for text in others for part in (Mark.VIDEO, text))]


def _role(entry: Mapping[str, str]) -> str:
    match entry.get("role", entry.get("from", "")):
        case "user" | "human":
            return "user"
        case "assistant" | "gpt":
            return "assistant"
        case "system":
            return "system"
        case role:
            raise ValueError(
                f"turn {dict(entry)!r:.200} is of role {role!r:.50}; "
                "known: human, gpt, user, assistant, system"
            )


def _content(entry: Mapping[str, str]) -> str:
    content = entry.get("content", entry.get("value"))
    if not isinstance(content, str):
        raise ValueError(f'turn {dict(entry)!r:.200} has no text under "value" or "content"')
    content.encode()  # A lone surrogate is a ValueError here, but a TypeError in the tokenizer.
    return content


def _with_time(content: str, time_message: str, video_position: VideoPosition) -> str:
    if content.count(VIDEO_MARK) == 1 and not content.startswith(VIDEO_MARK):
        content = f"{VIDEO_MARK}\n{content.replace(VIDEO_MARK, '').strip()}".strip()
    message = time_message.rstrip()
    if message:
        match video_position:
            case "first":
                mark = f"{VIDEO_MARK}{message} "
            case "last":
                mark = f"{message} {VIDEO_MARK}"
            case "middle":
                mark = f"{VIDEO_MARK}{message}"
            case _:
                raise unknown_position(video_position)
        content = content.replace(VIDEO_MARK, mark)
    return content.replace(NOISE, "")
