"""Writes and reads record sets: ArrayRecord files with TFDS metadata, without TensorFlow.

Examples are streamed to disk in order, one in memory at a time; TFDS's `GeneratorBasedBuilder`
would buffer up to a gigabyte and shuffle by key. `tfds.builder_from_directory` reads the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

SPLIT = "records"

QUESTION_FEATURES = tfds.features.FeaturesDict(
    {
        "id": tfds.features.Text(),
        "video": np.int64,  # number of the record in the set of videos
        "question": tfds.features.Text(),
        "answer": tfds.features.Text(),
        "kind": tfds.features.Text(),
        "options": tfds.features.Sequence(tfds.features.Text()),
        "input_ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "labels": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "prompt_ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "answer_ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
    }
)


def video_features(image_size: int) -> tfds.features.FeaturesDict:
    """Returns the features of a video record; frames are stored raw, so decoding is one copy."""
    return tfds.features.FeaturesDict(
        {
            "video": tfds.features.Text(),
            "frames": tfds.features.Tensor(
                shape=(None, image_size, image_size, 3), dtype=np.uint8, encoding="bytes"
            ),
            "duration": np.float64,
        }
    )


class RecordWriter:
    """Appends `total` examples to a new folder, `per_file` to a file."""

    def __init__(
        self, folder: Path, features: tfds.features.FeaturesDict, total: int, per_file: int
    ) -> None:
        self._features = features
        self._template = tfds.core.ShardedFileTemplate(
            data_dir=folder,
            dataset_name=folder.name,
            split=SPLIT,
            filetype_suffix="array_record",
        )
        self._per_file = per_file
        full, rest = divmod(total, per_file)
        self._lengths = [per_file] * full + [rest] * bool(rest)
        self._paths = self._template.sharded_filepaths(num_shards=len(self._lengths))
        self._written = 0
        self._num_bytes = 0
        self._file: array_record_module.ArrayRecordWriter | None = None

    def write(self, example: dict[str, Any]) -> None:
        """Appends one example."""
        number, position = divmod(self._written, self._per_file)
        if position == 0:
            self.close()
            # One record per group, so that random access reads no neighbors.
            self._file = array_record_module.ArrayRecordWriter(
                str(self._paths[number]), "group_size:1"
            )
        assert self._file is not None
        data = self._features.serialize_example(example)
        self._file.write(data)
        self._written += 1
        self._num_bytes += len(data)

    def close(self) -> None:
        """Closes the current file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def write_metadata(self) -> None:
        """Writes the metadata that make the folder readable, after all `total` examples."""
        assert self._written == sum(self._lengths), (self._written, self._lengths)
        info = tfds.core.SplitInfo(
            name=SPLIT,
            shard_lengths=self._lengths,
            num_bytes=self._num_bytes,
            filename_template=self._template,
        )
        tfds.folder_dataset.write_metadata(
            data_dir=self._template.data_dir,
            features=self._features,
            split_infos=[info],
            filename_template=self._template,
            check_data=False,
        )


@contextmanager
def record_writer(
    folder: Path, features: tfds.features.FeaturesDict, total: int, *, per_file: int | None = None
) -> Iterator[RecordWriter]:
    """Creates `folder` and yields a writer for `total` records.

    If the block raises, the folder gets no metadata and cannot be opened.

    Args:
        per_file: records per file (default: all in one file).
    """
    folder.mkdir()
    writer = RecordWriter(folder, features, total, total if per_file is None else per_file)
    try:
        yield writer
    finally:
        writer.close()
    writer.write_metadata()


def open_records(folder: Path) -> Any:
    """Opens a folder as a random-access sequence of decoded examples (text as bytes)."""
    return tfds.builder_from_directory(folder).as_data_source(split=SPLIT)
