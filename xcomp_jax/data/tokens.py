"""Tokenizes training conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xcomp_jax.text import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RowError(ValueError):
    """Raised for a row that cannot be trained on; the message names the row and the reason."""


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
        RowError: the conversation is too long, malformed, or does not hold exactly one video.
    """
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
        raise RowError(
            f"row {name!r} has {length} text tokens, more than "
            f"data.max_text_tokens={max_text_tokens}; raise the limit or remove the row"
        )
    return np.asarray(input_ids, np.int32), np.asarray(labels, np.int32)
