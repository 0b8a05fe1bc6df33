"""Tokenizes manifest rows and fingerprints the tokenizer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from xcomp_jax.data.prepared.manifest import ManifestRow
from xcomp_jax.data.prepared.rows import TokenRow
from xcomp_jax.data.tokens import training_tokens
from xcomp_jax.text import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenize_row(
    row: ManifestRow,
    time_message: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_text_tokens: int,
    prompt_as_asked: bool = False,
) -> TokenRow:
    """Returns the tokens of one row; arguments and errors as `training_tokens`."""
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
        answer_ids=np.asarray(prompts.encode_text(tokenizer, row.answer), np.int32),
    )


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a hash that changes with the tokenizer or the prompt template."""
    conversation = (
        {"from": "human", "value": f"{prompts.VIDEO_MARK}\nWhich?"},
        {"from": "gpt", "value": "This."},
    )
    message = "\nThe video lasts for 1.00 seconds, and 8 frames are uniformly sampled from it. "
    sample = (
        prompts.training_example(tokenizer, conversation, message),
        prompts.inference_ids(tokenizer, "Which?", message),
    )
    # The sample covers the merge rules, which the vocabulary does not show.
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return hashlib.sha256(repr((vocabulary, sample)).encode()).hexdigest()
