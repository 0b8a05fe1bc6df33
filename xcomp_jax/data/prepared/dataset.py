"""Opens a prepared set: token ids of all rows in memory, frames by video.

Needs neither ffmpeg nor a tokenizer, so that training machines can read what another machine
prepared.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import numpy as np

from xcomp_jax.data.padding import Example
from xcomp_jax.data.prepared.examples import evaluation_example, example_shape, training_example
from xcomp_jax.data.prepared.records import open_records
from xcomp_jax.data.prepared.rows import TOKEN_FIELDS, QuestionRow, TokenRow
from xcomp_jax.files import read_json

SUMMARY_FILE = "prepared.json"

MAX_FRAME_BYTES_IN_MEMORY = 1 << 30
"""A set with more bytes of frames is read from disk instead of being kept in memory."""

READ_THREADS = 8
MAX_READ_AHEAD_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedDataset:
    """A prepared set as a `TrainingSet`; open one with `open_prepared`.

    fingerprint: hash of the settings that the set was prepared with.
    image_size: side S of the frames in pixels.
    max_frames: number of frames of the longest video.
    rows: in manifest order, except that the rows of one video are adjacent.
    """

    folder: Path
    fingerprint: str
    image_size: int
    max_frames: int
    rows: tuple[QuestionRow, ...]
    _videos: Any = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_videos(self) -> int:
        """Number of distinct videos."""
        return len(self._videos)

    def row_id(self, row: int) -> str:
        """Returns the manifest's id of a row."""
        return self.rows[row].id

    def frames(self, video: int) -> np.ndarray:
        """Returns the frames of one video, uint8 [F, X, X, 3]."""
        return self._frames_in_memory[video] if self.in_memory else self._videos[video]["frames"]

    def examples(self, *, batch_size: int, seed: int) -> Callable[[int], Example]:
        """Returns the example stream of `TrainingSet`; all examples have one shape."""
        del batch_size  # rows follow each other across epochs whatever the batch size
        shape = example_shape(self.rows, self.max_frames, lambda tokens: tokens.input_ids)
        order = grain.MapDataset.range(len(self)).seed(seed).shuffle().repeat()

        def example(position: int) -> Example:
            index = order[position]
            row = self.rows[index]
            return training_example(index, row.tokens, self.frames(row.video), shape)

        return example

    def evaluation_examples(self) -> Callable[[int], Example]:
        """Returns a function from a row to its evaluation example; all have one shape."""
        shape = example_shape(self.rows, self.max_frames, lambda tokens: tokens.prompt_ids)

        def example(index: int) -> Example:
            row = self.rows[index]
            return evaluation_example(index, row.tokens, self.frames(row.video), shape)

        return example

    @property
    def read_options(self) -> grain.ReadOptions:
        """Reader threads for frames on disk; none for frames in memory."""
        if self.in_memory:
            return grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        bytes_per_row = self.max_frames * self.image_size**2 * 3
        ahead = max(1, min(4 * READ_THREADS, MAX_READ_AHEAD_BYTES // bytes_per_row))
        return grain.ReadOptions(num_threads=min(READ_THREADS, ahead), prefetch_buffer_size=ahead)

    @property
    def in_memory(self) -> bool:
        """True if the frames of all videos are kept in memory (`MAX_FRAME_BYTES_IN_MEMORY`)."""
        bound = self.num_videos * self.max_frames * self.image_size**2 * 3
        return bound <= MAX_FRAME_BYTES_IN_MEMORY

    @functools.cached_property
    def _frames_in_memory(self) -> list[np.ndarray]:
        return [self._videos[i]["frames"] for i in range(self.num_videos)]


def open_prepared(folder: Path) -> PreparedDataset:
    """Opens a folder that `prepare`, or another tool, wrote in this format.

    Raises:
        FileNotFoundError: `folder` holds no complete set.
    """
    path = folder / SUMMARY_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no prepared set: {SUMMARY_FILE} is missing")
    summary = read_json(path, remedy="delete the folder and prepare the set again")
    return PreparedDataset(
        folder=folder,
        fingerprint=summary["fingerprint"],
        image_size=summary["image_size"],
        max_frames=summary["max_frames"],
        rows=tuple(_question_row(record) for record in open_records(folder / "questions")),
        _videos=open_records(folder / "videos"),
    )


def _question_row(record: dict[str, Any]) -> QuestionRow:
    return QuestionRow(
        id=record["id"].decode(),
        video=int(record["video"]),
        question=record["question"].decode(),
        answer=record["answer"].decode(),
        kind=record["kind"].decode(),
        options=tuple(option.decode() for option in record["options"]),
        tokens=TokenRow(**{name: record[name] for name in TOKEN_FIELDS}),
    )
