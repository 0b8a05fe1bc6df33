"""Pads the rows of a prepared set to examples of one shape; fields as in `data.pipeline`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from xcomp_jax.data.padding import (
    ANSWER_MULTIPLE,
    PREFIX_MULTIPLE,
    SUFFIX_MULTIPLE,
    Example,
    padded,
    round_up,
    text_fields,
    video_position,
)
from xcomp_jax.data.prepared.rows import QuestionRow, TokenRow
from xcomp_jax.text.prompts import IGNORE


class ExampleShape(NamedTuple):
    """Padded lengths: frames, and tokens before the video, after it and in the answer."""

    frames: int
    prefix: int
    suffix: int
    answer: int


def example_shape(
    rows: Sequence[QuestionRow], max_frames: int, ids: Callable[[TokenRow], np.ndarray]
) -> ExampleShape:
    """Returns the smallest shape that holds every row.

    Args:
        ids: selects the sequence [S] that goes into the example.
    """
    sequences = [ids(row.tokens) for row in rows]
    before = [video_position(sequence) for sequence in sequences]
    after = [len(s) - 1 - position for s, position in zip(sequences, before, strict=True)]
    answers = [len(row.tokens.answer_ids) for row in rows]
    return ExampleShape(
        frames=max_frames,
        prefix=round_up(max(before), PREFIX_MULTIPLE),
        suffix=round_up(max(after), SUFFIX_MULTIPLE),
        answer=round_up(max(answers), ANSWER_MULTIPLE),
    )


def training_example(
    index: int, tokens: TokenRow, frames: np.ndarray, shape: ExampleShape
) -> Example:
    """Pads the conversation and `frames` [F, X, X, 3] of row `index`."""
    return _example(index, tokens.input_ids, tokens.labels, frames, shape)


def evaluation_example(
    index: int, tokens: TokenRow, frames: np.ndarray, shape: ExampleShape
) -> Example:
    """Pads the prompt, the expected answer and `frames` [F, X, X, 3] of row `index`."""
    no_labels = np.full_like(tokens.prompt_ids, IGNORE)
    return {
        **_example(index, tokens.prompt_ids, no_labels, frames, shape),
        "answer_ids": padded(tokens.answer_ids, shape.answer, 0),
        "answer_len": np.int32(len(tokens.answer_ids)),
    }


def _example(
    index: int, ids: np.ndarray, labels: np.ndarray, frames: np.ndarray, shape: ExampleShape
) -> Example:
    return {
        "frames": padded(frames, shape.frames, 0),
        "num_frames": np.int32(len(frames)),
        **text_fields(ids, labels, shape.prefix, shape.suffix),
        "example_weight": np.float32(1),
        "index": np.int64(index),
    }
