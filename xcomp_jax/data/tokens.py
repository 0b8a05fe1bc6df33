"""The token ids of a manifest row: what is trained on, what is asked, what is expected."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xcomp_jax.data.prepared.dataset import TokenRow
from xcomp_jax.data.prepared.manifest import ManifestRow
from xcomp_jax.text import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RowError(ValueError):
    """A row that cannot be trained on; names the row and the reason."""


def tokenize_row(
    row: ManifestRow,
    time_message: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_text_tokens: int,
    prompt_as_asked: bool = False,
) -> TokenRow:
    """Tokens of one row; `time_message` says how long its video is and how many frames are seen.

    Raises:
        RowError: as `training_tokens`.
    """
    input_ids, labels = training_tokens(
        row.id,
        row.conversations,
        time_message,
        tokenizer=tokenizer,
        max_text_tokens=max_text_tokens,
        prompt_as_asked=prompt_as_asked,
    )
    prompt_ids = prompts.inference_ids(tokenizer, row.question, time_message)
    return TokenRow(
        input_ids=input_ids,
        labels=labels,
        prompt_ids=np.asarray(prompt_ids, np.int32),
        answer_ids=np.asarray(prompts.encode(tokenizer, row.answer), np.int32),
    )


def training_tokens(
    name: str,
    conversations: Sequence[Mapping[str, str]],
    time_message: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_text_tokens: int,
    prompt_as_asked: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(input_ids, labels), int32 [S] each, of the conversation of the row called `name`.

    The original trains with a newline before the question that it leaves out when asking. With
    `prompt_as_asked` the training prompt is the one asked with, letter by letter.

    Raises:
        RowError: too long (nothing is ever cut, since an answer might be lost silently), or not
            exactly one video in it.
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
            f"row {name!r}: {length} text tokens, but data.max_text_tokens={max_text_tokens}; "
            "raise it, or take the row out"
        )
    return np.asarray(input_ids, np.int32), np.asarray(labels, np.int32)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Changes when the tokenizer or the prompt template does."""
    conversation = (
        {"from": "human", "value": f"{prompts.VIDEO_MARK}\nWhich?"},
        {"from": "gpt", "value": "This."},
    )
    message = "\nThe video lasts for 1.00 seconds, and 8 frames are uniformly sampled from it. "
    sample = (
        prompts.training_example(tokenizer, conversation, message),
        prompts.inference_ids(tokenizer, "Which?", message),
    )
    # The vocabulary in the order of ids; how texts are cut into it shows in the sample.
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return hashlib.sha256(repr((vocabulary, sample)).encode()).hexdigest()
