"""Batches: fixed shapes, whole epochs, exact resumption, the same rows for any process count."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.handmade_set import FRAME_COUNTS, NUM_ROWS, write_set
from xcomp_jax.data.pipeline import Batch, eval_batches, train_batches
from xcomp_jax.data.prepared import dataset as dataset_module
from xcomp_jax.data.prepared.dataset import PreparedDataset, open_prepared


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_set(tmp_path_factory.mktemp("prepared") / "set")


def assert_same(actual: Batch, expected: Batch) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def test_records_come_back_as_written(dataset: PreparedDataset) -> None:
    assert len(dataset) == NUM_ROWS
    assert dataset.num_videos == len(FRAME_COUNTS)
    row = dataset.rows[5]
    assert (row.id, row.video, row.answer, row.options) == ("row 5", 1, "grün", ("grün", "rot"))
    assert row.tokens.input_ids.tolist() == [1, 105, 2, 2, -200, 3, 105, 4, 7, 105]
    assert dataset.frames(1).shape == (8, 2, 2, 3)
    assert (dataset.frames(2) == 30).all()


def test_training_example_by_hand(dataset: PreparedDataset) -> None:
    batches = train_batches(dataset, batch_size=NUM_ROWS, seed=0)
    batch = next(batches)
    at = batch["index"].tolist().index(4)
    row = {name: value[at] for name, value in batch.items()}
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


def test_every_epoch_holds_every_row_once_in_another_order(dataset: PreparedDataset) -> None:
    rows = [
        int(i)
        for b in itertools.islice(train_batches(dataset, batch_size=1, seed=3), 39)
        for i in b["index"]
    ]
    epochs = [rows[i : i + NUM_ROWS] for i in range(0, 39, NUM_ROWS)]
    assert all(sorted(epoch) == list(range(NUM_ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = [
        int(b["index"][0])
        for b in itertools.islice(train_batches(dataset, batch_size=1, seed=4), 13)
    ]
    assert other != epochs[0]


@pytest.mark.parametrize("batch_size", [4, 5])
def test_resumes_exactly_from_every_position(dataset: PreparedDataset, batch_size: int) -> None:
    def start() -> object:
        return train_batches(dataset, batch_size=batch_size, seed=7)

    undisturbed = start()
    states, expected = [], []
    for _ in range(12):  # almost four epochs
        states.append(json.dumps(undisturbed.get_state()))  # as a checkpoint would hold it
        expected.append(next(undisturbed))
    for position, state in enumerate(states):
        resumed = start()
        for _ in range(position % 3):  # wherever the new iterator happened to be
            next(resumed)
        resumed.set_state(json.loads(state))
        for batch in expected[position : position + 3]:
            assert_same(next(resumed), batch)


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_each_batch(dataset: PreparedDataset, process_count: int) -> None:
    alone = train_batches(dataset, batch_size=4, seed=1)
    together = [
        train_batches(dataset, batch_size=4, seed=1, process_index=i, process_count=process_count)
        for i in range(process_count)
    ]
    for _ in range(10):
        parts = [next(part)["index"] for part in together]
        assert {len(part) for part in parts} == {4 // process_count}
        assert sorted(np.concatenate(parts)) == sorted(next(alone)["index"])


def test_processes_share_the_evaluation(dataset: PreparedDataset) -> None:
    shares = [
        list(eval_batches(dataset, batch_size=4, process_index=i, process_count=2)) for i in (0, 1)
    ]
    assert [len(share) for share in shares] == [4, 4]
    counted = [
        int(i) for share in shares for b in share for i in b["index"][b["example_weight"] == 1]
    ]
    assert sorted(counted) == list(range(NUM_ROWS))


def test_uneven_shares_are_refused(dataset: PreparedDataset) -> None:
    with pytest.raises(ValueError, match=r"process_count=3 must divide batch_size=4"):
        train_batches(dataset, batch_size=4, seed=0, process_count=3)


def test_evaluation_covers_all_rows_with_a_padded_end(dataset: PreparedDataset) -> None:
    batches = list(eval_batches(dataset, batch_size=5))
    assert len(batches) == 3
    assert {b["suffix_ids"].shape for b in batches} == {(5, 16)}
    counted = [
        int(i)
        for b in batches
        for i, w in zip(b["index"], b["example_weight"], strict=True)
        if w == 1
    ]
    assert counted == list(range(NUM_ROWS))
    assert batches[-1]["example_weight"].tolist() == [1, 1, 1, 0, 0]
    assert batches[-1]["num_frames"].min() > 0, "filling must be a computable example"


def test_evaluation_shows_no_answer(dataset: PreparedDataset) -> None:
    batch = next(eval_batches(dataset, batch_size=NUM_ROWS))
    assert not (batch["suffix_ids"] == 7).any()
    assert (batch["suffix_labels"] == -100).all()
    assert (batch["prefix_labels"] == -100).all()
    assert batch["answer_ids"].shape == (NUM_ROWS, 8)
    assert batch["answer_len"].tolist() == [1 + row % 5 for row in range(NUM_ROWS)]
    assert batch["answer_ids"][3].tolist() == [7, 7, 7, 7, 0, 0, 0, 0]


def test_a_large_set_is_read_from_disk_and_gives_the_same(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(itertools.islice(train_batches(dataset, batch_size=4, seed=2), 8))
    state = train_batches(dataset, batch_size=4, seed=2).get_state()
    monkeypatch.setattr(dataset_module, "MAX_FRAME_BYTES_IN_MEMORY", 0)
    large = open_prepared(dataset.folder)
    assert not large.in_memory
    from_disk = train_batches(large, batch_size=4, seed=2)
    for batch in expected[:3]:
        assert_same(next(from_disk), batch)
    middle = from_disk.get_state()
    next(from_disk)
    from_disk.set_state(middle)
    for batch in expected[3:]:
        assert_same(next(from_disk), batch)
    from_disk.set_state(state)
    assert_same(next(from_disk), expected[0])


def test_an_unfinished_folder_is_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"prepared\.json is missing"):
        open_prepared(tmp_path)
