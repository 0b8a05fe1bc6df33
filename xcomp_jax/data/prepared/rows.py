"""Defines the rows of a prepared set and their token ids."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenRow:
    """Token ids of one question, int32 [S] each; all but `answer_ids` hold one video placeholder.

    input_ids, labels: the whole conversation, for training.
    prompt_ids: the inference prompt of the first question, up to the start of the answer.
    answer_ids: the answer to the first question.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    prompt_ids: np.ndarray
    answer_ids: np.ndarray


TOKEN_FIELDS = tuple(field.name for field in dataclasses.fields(TokenRow))


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """One question about video number `video`; `kind` and `options` may be empty."""

    id: str
    video: int
    question: str
    answer: str
    kind: str
    options: tuple[str, ...]
    tokens: TokenRow
