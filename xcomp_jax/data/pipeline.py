"""Batches of fixed shapes for training and evaluation, from a prepared set or a mixture.

A batch is a dict of numpy arrays:

    frames         uint8 [B, F, S, S, 3]   zeros after the video's own frames
    num_frames     int32 [B]
    prefix_ids     int32 [B, P]            text before the video, zeros after `prefix_len`
    prefix_len     int32 [B]
    prefix_labels  int32 [B, P]            -100: no loss
    suffix_ids     int32 [B, Q]            text after the video
    suffix_len     int32 [B]
    suffix_labels  int32 [B, Q]
    example_weight float32 [B]             0 for a row that does not count
    index          int64 [B]               row of the set, for looking up answers

From a mixture whose encoder output is on disk (`data.features`) a batch has, in place of `frames`,

    merged_features  float [B, F * tokens_per_frame, D_vision]   float32 or bfloat16

the frozen encoder's output after token merging and before the projector's MLP: row t of frame f's
clip, clip after clip, zeros after `num_frames * tokens_per_frame` rows.

F, P, Q and A belong to a prepared set: every batch of it has one shape. A batch of a mixture has F
and Q of its bucket (`data.buckets`), equal on all processes, and F = 1 where it is of images. A row
of a mixture that does not count could not be read: its pixels are zeros and all its labels -100.

In evaluation the suffix is the prompt alone, labels are all -100, and `answer_ids` [B, A] with
`answer_len` [B] come beside it; a row that does not count fills up the last batch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain
import numpy as np

from xcomp_jax.data.mixture.dataset import MixtureDataset
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
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.text.prompts import IGNORE

Batch = dict[str, np.ndarray]

READ_THREADS = 8
MAX_READ_AHEAD_BYTES = 1 << 30
MAX_AHEAD = 128
"""Examples of a mixture that wait at most, however small they are."""


def train_batches(
    dataset: PreparedDataset | MixtureDataset,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    examples_seen: int = 0,
) -> grain.DatasetIterator[Batch]:
    """Endless batches, every row once per epoch, each epoch in another order.

    A mixture differs in two ways: the last rows that do not fill a batch are left out of an epoch,
    and a set with a weight is passed over that often (`buckets.EpochPlanner`).

    `batch_size` counts rows of all processes together; this one gets `batch_size / process_count`,
    the rows of a batch that stand together. Batch number i holds the same rows in the same order
    however many processes share it, so a run continues with another number of processes from
    `examples_seen`, the rows that all of them have taken together.

    The iterator's `get_state()` is a small JSON-able dict that counts the rows taken by this
    process; after `set_state` the next batch is the one that would have followed.

    Raises:
        ValueError: when the processes cannot share a batch evenly, `examples_seen` is not a number
            of whole batches, or a mixture has fewer images or fewer videos than a batch.
        BadSamplesError: while iterating, when too many rows of a mixture cannot be read.
    """
    _check_shares(batch_size, process_count)
    if examples_seen % batch_size:
        raise ValueError(f"{examples_seen=} must be a multiple of {batch_size=}: whole batches")
    share = batch_size // process_count
    if isinstance(dataset, MixtureDataset):
        example = _mixture_examples(dataset, batch_size, seed)
    else:
        example = _prepared_examples(dataset, seed)

    def place_of(number: int) -> int:
        batch, slot = divmod(number, share)
        return examples_seen + batch * batch_size + process_index * share + slot

    # Shared after epochs are joined: an epoch's end falls into the same batch on all processes.
    examples = grain.MapDataset.range(sys.maxsize // process_count).map(place_of).map(example)
    return iter(examples.to_iter_dataset(_read_options(dataset)).batch(share, drop_remainder=True))


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


def _prepared_examples(dataset: PreparedDataset, seed: int) -> Callable[[int], Example]:
    """The example at each place of an endless run."""
    shape = _shape(dataset, [row.tokens.input_ids for row in dataset.rows])
    rows = grain.MapDataset.range(len(dataset)).seed(seed).shuffle().repeat()
    return lambda place: _training_example(dataset, shape, rows[place])


def _mixture_examples(
    dataset: MixtureDataset, batch_size: int, seed: int
) -> Callable[[int], Example]:
    """The example at each place of an endless run."""
    planner = dataset.planner(batch_size, seed)
    # Two, since rows of the next epoch are read while the last batches of this one are made.
    epoch_plan = functools.lru_cache(maxsize=2)(planner.plan)

    def example(place: int) -> Example:
        batch, slot = divmod(place, batch_size)
        epoch, number = divmod(batch, planner.batches_per_epoch)
        plan = epoch_plan(epoch)
        return dataset.example(int(plan.rows[number, slot]), plan.buckets[number])

    return example


class _Shape(NamedTuple):
    """Slots of one example: frames, and tokens before the video, after it and in the answer."""

    frames: int
    prefix: int
    suffix: int
    answer: int


def _shape(dataset: PreparedDataset, sequences: list[np.ndarray]) -> _Shape:
    before = [video_position(ids) for ids in sequences]
    after = [len(ids) - 1 - position for ids, position in zip(sequences, before, strict=True)]
    answers = [len(row.tokens.answer_ids) for row in dataset.rows]
    return _Shape(
        frames=dataset.max_frames,
        prefix=round_up(max(before), PREFIX_MULTIPLE),
        suffix=round_up(max(after), SUFFIX_MULTIPLE),
        answer=round_up(max(answers), ANSWER_MULTIPLE),
    )


def _training_example(dataset: PreparedDataset, shape: _Shape, row: int) -> Example:
    tokens = dataset.rows[row].tokens
    return _example(dataset, shape, row, tokens.input_ids, tokens.labels)


def _eval_example(dataset: PreparedDataset, shape: _Shape, row: int) -> Example:
    tokens = dataset.rows[row].tokens
    nothing = np.full_like(tokens.prompt_ids, IGNORE)
    return {
        **_example(dataset, shape, row, tokens.prompt_ids, nothing),
        "answer_ids": padded(tokens.answer_ids, shape.answer, 0),
        "answer_len": np.int32(len(tokens.answer_ids)),
    }


def _example(
    dataset: PreparedDataset, shape: _Shape, row: int, ids: np.ndarray, labels: np.ndarray
) -> Example:
    """`ids` and `labels` are [S], the placeholder among them."""
    frames = dataset.frames(dataset.rows[row].video)
    return {
        "frames": padded(frames, shape.frames, 0),
        "num_frames": np.int32(len(frames)),
        **text_fields(ids, labels, shape.prefix, shape.suffix),
        "example_weight": np.float32(1),
        "index": np.int64(row),
    }


def _read_options(dataset: PreparedDataset | MixtureDataset) -> grain.ReadOptions:
    """Reads ahead in threads from disk; frames in memory need neither threads nor a buffer."""
    if isinstance(dataset, MixtureDataset):
        config = dataset.reader.config
        ahead = max(1, int(config.read_ahead_gib * 2**30) // dataset.bytes_per_example)
        return grain.ReadOptions(
            num_threads=min(config.threads, ahead), prefetch_buffer_size=min(ahead, MAX_AHEAD)
        )
    if dataset.in_memory:
        return grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    bytes_per_row = dataset.max_frames * dataset.image_size**2 * 3
    ahead = max(1, min(4 * READ_THREADS, MAX_READ_AHEAD_BYTES // bytes_per_row))
    return grain.ReadOptions(num_threads=min(READ_THREADS, ahead), prefetch_buffer_size=ahead)
