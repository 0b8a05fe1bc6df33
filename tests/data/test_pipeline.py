"""Batches: fixed shapes, complete epochs, exact resumption, equal rows for any process count."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import grain
import numpy as np
import pytest

from tests.data.batches import assert_same
from tests.data.prepared.example_set import NUM_ROWS, write_set
from xcomp_jax.data.padding import Example
from xcomp_jax.data.pipeline import eval_batches, train_batches
from xcomp_jax.data.prepared.dataset import PreparedDataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_set(tmp_path_factory.mktemp("prepared") / "set")


class Squares:
    """The smallest `TrainingSet`: position p of the stream holds p squared."""

    read_options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)

    def __len__(self) -> int:
        return 1

    def row_id(self, row: int) -> str:
        return str(row)

    def examples(self, *, batch_size: int, seed: int) -> Callable[[int], Example]:
        return lambda position: {"index": np.int64(position**2 + seed)}


def test_train_batches_any_training_set_is_split_by_position() -> None:
    share = train_batches(
        Squares(), batch_size=4, seed=1, process_index=1, process_count=2, examples_seen=8
    )
    assert next(share)["index"].tolist() == [10**2 + 1, 11**2 + 1]
    assert next(share)["index"].tolist() == [14**2 + 1, 15**2 + 1]
    with pytest.raises(ValueError, match=r"examples_seen=6 must be a multiple of batch_size=4"):
        train_batches(Squares(), batch_size=4, seed=1, examples_seen=6)


def test_train_batches_example_is_padded_as_documented(dataset: PreparedDataset) -> None:
    batch = next(train_batches(dataset, batch_size=NUM_ROWS, seed=0))
    position = batch["index"].tolist().index(4)
    row = {name: value[position] for name, value in batch.items()}
    assert row["frames"].shape == (8, 2, 2, 3)
    assert row["num_frames"] == 4
    assert (row["frames"][:4] == 10).all()
    assert (row["frames"][4:] == 0).all()
    assert row["prefix_ids"].tolist() == [1, 104, 2, 0, 0, 0, 0, 0]
    assert row["prefix_len"] == 3
    assert row["prefix_labels"].tolist() == [-100] * 8
    assert row["suffix_ids"].tolist() == [3, 104, 4, 7, 104] + [0] * 11
    assert row["suffix_len"] == 5
    assert row["suffix_labels"].tolist() == [-100] * 3 + [7, 104] + [-100] * 11
    assert row["example_weight"] == 1
    dtypes = {name: str(value.dtype) for name, value in batch.items()}
    assert dtypes.pop("frames") == "uint8"
    assert dtypes.pop("example_weight") == "float32"
    assert dtypes.pop("index") == "int64"
    assert set(dtypes.values()) == {"int32"}


def test_train_batches_every_epoch_is_another_permutation(dataset: PreparedDataset) -> None:
    batches = itertools.islice(train_batches(dataset, batch_size=1, seed=3), 3 * NUM_ROWS)
    rows = [int(batch["index"][0]) for batch in batches]
    epochs = [rows[i : i + NUM_ROWS] for i in range(0, 3 * NUM_ROWS, NUM_ROWS)]
    assert all(sorted(epoch) == list(range(NUM_ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other_seed = itertools.islice(train_batches(dataset, batch_size=1, seed=4), NUM_ROWS)
    assert [int(batch["index"][0]) for batch in other_seed] != epochs[0]


@pytest.mark.parametrize("batch_size", [4, 5])
def test_train_batches_resume_exactly_from_every_position(
    dataset: PreparedDataset, batch_size: int
) -> None:
    def start() -> grain.DatasetIterator:
        return train_batches(dataset, batch_size=batch_size, seed=7)

    uninterrupted = start()
    states, expected = [], []
    for _ in range(12):  # almost four epochs
        states.append(json.dumps(uninterrupted.get_state()))  # as a checkpoint stores it
        expected.append(next(uninterrupted))
    for position, state in enumerate(states):
        resumed = start()
        for _ in range(position % 3):  # the new iterator's own position must not matter
            next(resumed)
        resumed.set_state(json.loads(state))
        for batch in expected[position : position + 3]:
            assert_same(next(resumed), batch)


@pytest.mark.parametrize("process_count", [2, 4])
def test_train_batches_processes_share_each_batch(
    dataset: PreparedDataset, process_count: int
) -> None:
    single = train_batches(dataset, batch_size=4, seed=1)
    shares = [
        train_batches(dataset, batch_size=4, seed=1, process_index=i, process_count=process_count)
        for i in range(process_count)
    ]
    for _ in range(10):
        parts = [next(share)["index"] for share in shares]
        assert {len(part) for part in parts} == {4 // process_count}
        assert sorted(np.concatenate(parts)) == sorted(next(single)["index"])


def test_train_batches_uneven_shares_are_refused(dataset: PreparedDataset) -> None:
    with pytest.raises(ValueError, match=r"process_count=3 must divide batch_size=4"):
        train_batches(dataset, batch_size=4, seed=0, process_count=3)


def test_eval_batches_processes_share_all_rows(dataset: PreparedDataset) -> None:
    shares = [
        list(eval_batches(dataset, batch_size=4, process_index=i, process_count=2)) for i in (0, 1)
    ]
    assert [len(share) for share in shares] == [4, 4]
    rows = [
        int(row)
        for share in shares
        for batch in share
        for row in batch["index"][batch["example_weight"] == 1]
    ]
    assert sorted(rows) == list(range(NUM_ROWS))


def test_eval_batches_cover_all_rows_and_pad_the_last(dataset: PreparedDataset) -> None:
    batches = list(eval_batches(dataset, batch_size=5))
    assert len(batches) == 3
    assert {batch["suffix_ids"].shape for batch in batches} == {(5, 16)}
    rows = [int(row) for b in batches for row in b["index"][b["example_weight"] == 1]]
    assert rows == list(range(NUM_ROWS))
    assert batches[-1]["example_weight"].tolist() == [1, 1, 1, 0, 0]
    assert batches[-1]["num_frames"].min() > 0, "padding rows must be computable"


def test_eval_batches_prompt_holds_no_answer(dataset: PreparedDataset) -> None:
    batch = next(eval_batches(dataset, batch_size=NUM_ROWS))
    assert not (batch["suffix_ids"] == 7).any()
    assert (batch["suffix_labels"] == -100).all()
    assert (batch["prefix_labels"] == -100).all()
    assert batch["answer_ids"].shape == (NUM_ROWS, 8)
    assert batch["answer_len"].tolist() == [1 + row % 5 for row in range(NUM_ROWS)]
    assert batch["answer_ids"][3].tolist() == [7, 7, 7, 7, 0, 0, 0, 0]
