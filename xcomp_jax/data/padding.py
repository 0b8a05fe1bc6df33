"""Pads the texts and frames of one example to fixed lengths; fields as in `data.pipeline`."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcomp_jax.text.prompts import IGNORE, VIDEO_PLACEHOLDER

Example = dict[str, Any]
"""A batch without the leading B."""

# Text lengths are rounded up to these, so that sets of similar questions share a compiled step.
PREFIX_MULTIPLE = 8
SUFFIX_MULTIPLE = 16
ANSWER_MULTIPLE = 4


def text_fields(ids: np.ndarray, labels: np.ndarray, prefix: int, suffix: int) -> Example:
    """Splits `ids` and `labels` [S] at the video placeholder and pads both parts.

    Args:
        prefix, suffix: padded lengths of the text before and after the video.
    """
    video = video_position(ids)
    before, after = ids[:video], ids[video + 1 :]
    return {
        "prefix_ids": padded(before, prefix, 0),
        "prefix_len": np.int32(len(before)),
        "prefix_labels": padded(labels[:video], prefix, IGNORE),
        "suffix_ids": padded(after, suffix, 0),
        "suffix_len": np.int32(len(after)),
        "suffix_labels": padded(labels[video + 1 :], suffix, IGNORE),
    }


def video_position(ids: np.ndarray) -> int:
    """Returns the index of the video placeholder in `ids`."""
    return int(np.flatnonzero(ids == VIDEO_PLACEHOLDER)[0])


def round_up(length: int, multiple: int) -> int:
    """Returns the smallest multiple of `multiple` that is at least `length`."""
    return -(-length // multiple) * multiple


def padded(values: np.ndarray, length: int, fill: int) -> np.ndarray:
    """Pads `values` [n, ...] with `fill` to [length, ...]."""
    full = np.full((length, *values.shape[1:]), fill, values.dtype)
    full[: len(values)] = values
    return full
