"""Opening prepared sets: stored values, frames in memory or on disk, incomplete folders."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.data.batches import assert_same
from tests.data.prepared.example_set import FRAME_COUNTS, NUM_ROWS, write_set
from xcomp_jax.data.pipeline import train_batches
from xcomp_jax.data.prepared import dataset as dataset_module
from xcomp_jax.data.prepared.dataset import PreparedDataset, open_prepared


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_set(tmp_path_factory.mktemp("prepared") / "set")


def test_open_prepared_returns_the_written_records(dataset: PreparedDataset) -> None:
    assert len(dataset) == NUM_ROWS
    assert dataset.num_videos == len(FRAME_COUNTS)
    row = dataset.rows[5]
    assert (row.id, row.video, row.answer, row.options) == ("row 5", 1, "grün", ("grün", "rot"))
    assert row.tokens.input_ids.tolist() == [1, 105, 2, 2, -200, 3, 105, 4, 7, 105]
    assert dataset.frames(1).shape == (8, 2, 2, 3)
    assert (dataset.frames(2) == 30).all()


def test_train_batches_from_disk_equal_those_from_memory(
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


def test_open_prepared_incomplete_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"prepared\.json is missing"):
        open_prepared(tmp_path)
