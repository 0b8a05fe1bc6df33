"""Batches of fixed shapes for training and evaluation, from a prepared set.

A batch is a dict of numpy arrays:

    frames         uint8 [B, F, S, S, 3]   zeros after the video's own frames
    num_frames     int32 [B]
    prefix_ids     int32 [B, P]            text before the video, zeros after `prefix_len`
    prefix_len     int32 [B]
    prefix_labels  int32 [B, P]            -100: no loss
    suffix_ids     int32 [B, Q]            text after the video
    suffix_len     int32 [B]
    suffix_labels  int32 [B, Q]
    example_weight float32 [B]             0 for a row that only fills up the last batch
    index          int64 [B]               row of the set, for looking up answers

In evaluation the suffix is the prompt alone, labels are all -100, and `answer_ids` [B, A] with
`answer_len` [B] come beside it. F, P, Q and A belong to the set: every batch of it has one shape.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np

from xcomp_jax.data.dataset import PreparedDataset
from xcomp_jax.text.prompts import IGNORE, VIDEO_PLACEHOLDER

Batch = dict[str, np.ndarray]
Example = dict[str, Any]  # a batch without the leading B

# Text lengths are rounded up to these, so that sets of similar questions share a compiled step.
PREFIX_MULTIPLE = 8
SUFFIX_MULTIPLE = 16
ANSWER_MULTIPLE = 4

READ_THREADS = 8
MAX_READ_AHEAD_BYTES = 1 << 30


def train_batches(
    dataset: PreparedDataset,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[Batch]:
    """Endless batches, every row once per epoch, each epoch in another order.

    `batch_size` counts rows of all processes together; this one gets `batch_size / process_count`.
    Batch number i holds the same rows however many processes share it.

    The iterator's `get_state()` is a small JSON-able dict that counts the rows taken by this
    process; after `set_state` the next batch is the one that would have followed.

    Raises:
        ValueError: when the processes cannot share a batch evenly.
    """
    _check_shares(batch_size, process_count)
    shape = _shape(dataset, [row.tokens.input_ids for row in dataset.rows])
    example = functools.partial(_training_example, dataset, shape)
    # Repeated before it is split: an epoch's end then falls into the same batch on all processes.
    rows = grain.MapDataset.range(len(dataset)).seed(seed).shuffle().repeat()
    examples = rows[process_index::process_count].map(example)
    return iter(
        examples.to_iter_dataset(_read_options(dataset)).batch(
            batch_size // process_count, drop_remainder=True
        )
    )


def eval_batches(
    dataset: PreparedDataset, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """All rows once, in order; the last batch is filled up with the last row at weight 0.

    Processes share each batch as in training, so all of them run equally many.
    """
    _check_shares(batch_size, process_count)
    shape = _shape(dataset, [row.tokens.prompt_ids for row in dataset.rows])
    for start in range(0, len(dataset), batch_size):
        rows = range(start, start + batch_size)[process_index::process_count]
        last = len(dataset) - 1
        examples = [_eval_example(dataset, shape, min(row, last)) for row in rows]
        batch = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
        batch["example_weight"] = np.array([row <= last for row in rows], np.float32)
        yield batch


def _check_shares(batch_size: int, process_count: int) -> None:
    if batch_size % process_count:
        raise ValueError(f"{process_count=} must divide {batch_size=}")


class _Shape(NamedTuple):
    """Slots of one example: frames, and tokens before the video, after it and in the answer."""

    frames: int
    prefix: int
    suffix: int
    answer: int


def _shape(dataset: PreparedDataset, sequences: list[np.ndarray]) -> _Shape:
    before = [_video_position(ids) for ids in sequences]
    after = [len(ids) - 1 - position for ids, position in zip(sequences, before, strict=True)]
    answers = [len(row.tokens.answer_ids) for row in dataset.rows]
    return _Shape(
        frames=dataset.max_frames,
        prefix=_round_up(max(before), PREFIX_MULTIPLE),
        suffix=_round_up(max(after), SUFFIX_MULTIPLE),
        answer=_round_up(max(answers), ANSWER_MULTIPLE),
    )


def _video_position(ids: np.ndarray) -> int:
    return int(np.flatnonzero(ids == VIDEO_PLACEHOLDER)[0])


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _training_example(dataset: PreparedDataset, shape: _Shape, row: int) -> Example:
    tokens = dataset.rows[row].tokens
    return _example(dataset, shape, row, tokens.input_ids, tokens.labels)


def _eval_example(dataset: PreparedDataset, shape: _Shape, row: int) -> Example:
    tokens = dataset.rows[row].tokens
    nothing = np.full_like(tokens.prompt_ids, IGNORE)
    return {
        **_example(dataset, shape, row, tokens.prompt_ids, nothing),
        "answer_ids": _padded(tokens.answer_ids, shape.answer, 0),
        "answer_len": np.int32(len(tokens.answer_ids)),
    }


def _example(
    dataset: PreparedDataset, shape: _Shape, row: int, ids: np.ndarray, labels: np.ndarray
) -> Example:
    """`ids` and `labels` are [S], the placeholder among them."""
    video = _video_position(ids)
    frames = dataset.frames(dataset.rows[row].video)
    prefix, suffix = ids[:video], ids[video + 1 :]
    return {
        "frames": _padded(frames, shape.frames, 0),
        "num_frames": np.int32(len(frames)),
        "prefix_ids": _padded(prefix, shape.prefix, 0),
        "prefix_len": np.int32(len(prefix)),
        "prefix_labels": _padded(labels[:video], shape.prefix, IGNORE),
        "suffix_ids": _padded(suffix, shape.suffix, 0),
        "suffix_len": np.int32(len(suffix)),
        "suffix_labels": _padded(labels[video + 1 :], shape.suffix, IGNORE),
        "example_weight": np.float32(1),
        "index": np.int64(row),
    }


def _padded(values: np.ndarray, length: int, fill: int) -> np.ndarray:
    """`values` [n, ...] followed by `fill` up to [length, ...]."""
    padded = np.full((length, *values.shape[1:]), fill, values.dtype)
    padded[: len(values)] = values
    return padded


def _read_options(dataset: PreparedDataset) -> grain.ReadOptions:
    """Reads ahead in threads from disk; frames in memory need neither threads nor a buffer."""
    if dataset.in_memory:
        return grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    bytes_per_row = dataset.max_frames * dataset.image_size**2 * 3
    ahead = max(1, min(4 * READ_THREADS, MAX_READ_AHEAD_BYTES // bytes_per_row))
    return grain.ReadOptions(num_threads=min(READ_THREADS, ahead), prefetch_buffer_size=ahead)
