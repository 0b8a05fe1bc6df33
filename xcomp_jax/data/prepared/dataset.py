"""A prepared set, opened for reading: rows of token ids in memory, frames by video.

Needs neither ffmpeg nor a tokenizer, so a training machine reads what another machine prepared.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.data.prepared.records import open_records
from xcomp_jax.files import read_json

SUMMARY_FILE = "prepared.json"

# Up to this many bytes of frames stay in memory; a larger set is read from disk at random.
MAX_FRAME_BYTES_IN_MEMORY = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenRow:
    """Token ids, int32 [S] each, the video placeholder once in all but the last.

    `input_ids` with `labels` is the whole conversation for training; `prompt_ids` is the first
    question as asked at inference, up to where the answer begins; `answer_ids` is its answer.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    prompt_ids: np.ndarray
    answer_ids: np.ndarray


TOKEN_FIELDS = tuple(field.name for field in dataclasses.fields(TokenRow))


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """One question about the video at position `video`; `kind` and `options` may be empty."""

    id: str
    video: int
    question: str
    answer: str
    kind: str
    options: tuple[str, ...]
    tokens: TokenRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedDataset:
    """An opened folder.

    `rows` are in manifest order, except that a video's rows stand together. `max_frames` is the
    number of frames of the longest video.
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
        return len(self._videos)

    def row_id(self, row: int) -> str:
        """What people know a row by."""
        return self.rows[row].id

    def frames(self, video: int) -> np.ndarray:
        """Frames of one video, uint8 [F, S, S, 3]."""
        return self._frames_in_memory[video] if self.in_memory else self._videos[video]["frames"]

    @property
    def in_memory(self) -> bool:
        """Whether all frames are kept in memory (`MAX_FRAME_BYTES_IN_MEMORY`)."""
        bound = self.num_videos * self.max_frames * self.image_size**2 * 3
        return bound <= MAX_FRAME_BYTES_IN_MEMORY

    @functools.cached_property
    def _frames_in_memory(self) -> list[np.ndarray]:
        return [self._videos[i]["frames"] for i in range(self.num_videos)]


def open_prepared(folder: Path) -> PreparedDataset:
    """Opens a folder that `prepare` or another tool wrote in this format.

    Raises:
        FileNotFoundError: when there is no whole set in `folder`.
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
