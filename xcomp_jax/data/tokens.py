"""Checks and tokenizes training conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xcomp_jax.text import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RowError(ValueError):
    """Raised for a row that cannot be trained on; the message names the row and the reason."""


class LongRowError(RowError):
    """Raised for a conversation with too many tokens."""


def check_conversation(
    name: str, conversations: Sequence[Mapping[str, str]], *, prompt_as_asked: bool = False
) -> None:
    """Checks everything about a conversation that does not depend on a tokenizer.

    Raises:
        RowError: a turn is malformed, there is not exactly one mark of the image or video, or there
            is no answer.
    """
    try:
        if prompt_as_asked:
            conversations = prompts.as_inference_turns(conversations, "")
        _check_turns(prompts.training_turns(conversations, ""))
    except ValueError as error:
        raise RowError(f"row {name!r}: {error}") from error


def training_tokens(
    name: str,
    conversations: Sequence[Mapping[str, str]],
    time_message: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_text_tokens: int,
    prompt_as_asked: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (input_ids, labels), int32 [S] each, of one conversation.

    The training prompt of the original has a newline before the question that its inference prompt
    lacks. With `prompt_as_asked` the training prompt equals the inference prompt.

    Args:
        name: the row's id, for error messages.
        time_message: sentence that gives the video's duration and number of frames.
        max_text_tokens: a longer conversation is an error; truncation could drop the answer.

    Raises:
        RowError: as `check_conversation`.
        LongRowError: the conversation is too long.
    """
    check_conversation(name, conversations, prompt_as_asked=prompt_as_asked)
    try:
        if prompt_as_asked:
            conversations = prompts.as_inference_turns(conversations, time_message)
            time_message = ""
        input_ids, labels = prompts.training_example(tokenizer, conversations, time_message)
        before, after = prompts.split_at_video(input_ids)
    except ValueError as error:
        raise RowError(f"row {name!r}: {error}") from error
    length = len(before) + len(after)
    if length > max_text_tokens:
        raise LongRowError(
            f"row {name!r} has {length} text tokens, more than "
            f"data.max_text_tokens={max_text_tokens}; raise the limit or remove the row"
        )
    return np.asarray(input_ids, np.int32), np.asarray(labels, np.int32)


def _check_turns(turns: Sequence[prompts.Turn]) -> None:
    # `training_example` drops a leading turn that is no question.
    if turns and turns[0].role != "user":
        turns = turns[1:]
    if not any(turn.role == "assistant" and turn.content.strip() for turn in turns):
        raise ValueError("the conversation has no answer; it needs a turn of 'gpt' with a text")
    marks = sum(turn.content.count(prompts.VIDEO_MARK) for turn in turns)
    if marks != 1:
        raise ValueError(
            f"the conversation has the mark {prompts.VIDEO_MARK!r} {marks} times; it must stand "
            "exactly once, where the image or video belongs"
        )
