"""Builds batches of fixed shapes for training and evaluation.

A batch is a dict of numpy arrays:

    frames         uint8 [B, F, X, X, 3]   zeros after the video's own frames
    num_frames     int32 [B]
    prefix_ids     int32 [B, P]            text before the video, zeros after `prefix_len`
    prefix_len     int32 [B]
    prefix_labels  int32 [B, P]            -100: no loss
    suffix_ids     int32 [B, Q]            text after the video
    suffix_len     int32 [B]
    suffix_labels  int32 [B, Q]
    example_weight float32 [B]             0 for a row without loss
    index          int64 [B]               row of the dataset

Batches of a mixture with stored encoder output (`data.mixture.features`) hold, instead of `frames`,

    merged_features  float [B, F * tokens_per_frame, D_vision]   float32 or bfloat16

the frozen encoder's output after token merging and before the projector's MLP: the tokens of all
frames in order, zeros after `num_frames * tokens_per_frame` rows.

All batches of a prepared set have the same F, P and Q. A batch of a mixture has the F and Q of its
bucket (`data.mixture.buckets`), equal on all processes; F = 1 in batches of images. A mixture row
with weight 0 could not be read: its pixels are zeros and all its labels -100.

In evaluation the suffix is the prompt alone and all labels are -100; `answer_ids` [B, A] and
`answer_len` [B] are added. A row with weight 0 pads the last batch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import grain
import numpy as np

from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.data.training_set import TrainingSet

Batch = dict[str, np.ndarray]


def train_batches(
    dataset: TrainingSet,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    examples_seen: int = 0,
) -> grain.DatasetIterator[Batch]:
    """Returns an endless iterator of batches: every row once per epoch, reshuffled every epoch.

    A mixture differs in two ways: each epoch drops the last rows that do not fill a batch, and a
    set with a weight is repeated accordingly (`data.mixture.buckets.EpochPlanner`).

    Batch i holds the same rows in the same order for any number of processes, so that a run can
    resume with another number of processes from `examples_seen`. The iterator's `get_state()`
    returns a small JSON-serializable dict; after `set_state` the next batch is the one that
    followed.

    Args:
        batch_size: rows of a batch over all processes; this process gets a contiguous
            `batch_size / process_count` of them.
        examples_seen: rows that all processes together have read before a resume.

    Raises:
        ValueError: the processes cannot share a batch evenly, `examples_seen` is not a multiple of
            `batch_size`, or a mixture has fewer images or fewer videos than a batch.
        BadSamplesError: during iteration, when too many rows of a mixture cannot be read.
    """
    _check_shares(batch_size, process_count)
    if examples_seen % batch_size:
        raise ValueError(f"{examples_seen=} must be a multiple of {batch_size=}")
    share = batch_size // process_count
    example = dataset.examples(batch_size=batch_size, seed=seed)

    def position(number: int) -> int:
        batch, slot = divmod(number, share)
        return examples_seen + batch * batch_size + process_index * share + slot

    # Split after epochs are joined, so that an epoch ends in the same batch on all processes.
    positions = grain.MapDataset.range(sys.maxsize // process_count).map(position)
    examples = positions.map(example).to_iter_dataset(dataset.read_options)
    return iter(examples.batch(share, drop_remainder=True))


def eval_batches(
    dataset: PreparedDataset, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """Yields all rows once, in order; the last batch is padded with the last row at weight 0.

    Processes share each batch, so that all of them run the same number of batches.
    """
    _check_shares(batch_size, process_count)
    example = dataset.evaluation_examples()
    last = len(dataset) - 1
    for start in range(0, len(dataset), batch_size):
        rows = range(start, start + batch_size)[process_index::process_count]
        examples = [example(min(row, last)) for row in rows]
        batch = {name: np.stack([row[name] for row in examples]) for name in examples[0]}
        batch["example_weight"] = np.array([row <= last for row in rows], np.float32)
        yield batch


def _check_shares(batch_size: int, process_count: int) -> None:
    if batch_size % process_count:
        raise ValueError(f"{process_count=} must divide {batch_size=}")
