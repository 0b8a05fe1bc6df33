"""Writes a small prepared set record by record, without videos or a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from xcomp_jax.data.prepared.dataset import SUMMARY_FILE, PreparedDataset, open_prepared
from xcomp_jax.data.prepared.records import QUESTION_FEATURES, record_writer, video_features

NUM_ROWS = 13  # prime: no batch size divides it
FRAME_COUNTS = (4, 8, 6, 4)


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def write_set(folder: Path, *, size: int = 2) -> PreparedDataset:
    """Writes a set whose row r is about video r % 4 and has the number 100 + r as text."""
    folder.mkdir()
    with record_writer(folder / "videos", video_features(size), len(FRAME_COUNTS)) as videos:
        for video, count in enumerate(FRAME_COUNTS):
            frames = np.full((count, size, size, 3), 10 * (video + 1), np.uint8)
            videos.write({"video": f"{video}.mp4", "frames": frames, "duration": count / 8})
    with record_writer(folder / "questions", QUESTION_FEATURES, NUM_ROWS) as questions:
        for row in range(NUM_ROWS):
            n = 100 + row
            before, after = [1, n] + [2] * (row % 3), [3, n, 4]
            questions.write(
                {
                    "id": f"row {row}",
                    "video": row % 4,
                    "question": f"What is {n}?",
                    "answer": "grün",
                    "kind": "",
                    "options": ["grün", "rot"][: row % 3],
                    "input_ids": ids(*before, -200, *after, 7, n),
                    "labels": ids(*[-100] * len(before), -100, *[-100] * len(after), 7, n),
                    "prompt_ids": ids(*before, -200, *after),
                    "answer_ids": ids(*[7] * (1 + row % 5)),
                }
            )
    summary = {"fingerprint": "0" * 16, "image_size": size, "max_frames": max(FRAME_COUNTS)}
    (folder / SUMMARY_FILE).write_text(json.dumps(summary))
    return open_prepared(folder)
