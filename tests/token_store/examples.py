"""Small keys and tokens for tests, identical in every process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from xcomp_jax.token_store import StoreKey
from xcomp_jax.token_store.keys import DTYPES


def example_key(number: int = 0, **fields: Any) -> StoreKey:
    """Creates the key of video `number`: by default 16 clips of [64, 24]."""
    defaults: dict[str, Any] = {
        "video_hash": f"{number:064x}",
        "encoder_hash": "e" * 64,
        "frame_indices": range(16),
        "image_size": 64,
        "preprocessing": "bicubic, mean 0.5, deviation 0.5",
        "clip_frames": 4,
        "tokens_per_clip": 64,
        "width": 24,
        "dtype": "float32",
    }
    return StoreKey.make(**{**defaults, **fields})


def example_clips(key: StoreKey, starts: Iterable[int]) -> dict[int, np.ndarray]:
    """Draws tokens from a seed given by the key and the start alone."""
    seed = int(key.video_hash, 16)
    return {
        start: np.random.default_rng([seed, start])
        .standard_normal(key.clip_shape)
        .astype(DTYPES[key.dtype])
        for start in starts
    }


def contents(clips: dict[int, np.ndarray]) -> dict[int, bytes]:
    return {start: clip.tobytes() for start, clip in clips.items()}


def folder_of(root: Path, key: StoreKey) -> Path:
    return root / "videos" / key.digest


def shards_of(root: Path, key: StoreKey) -> list[Path]:
    return sorted(folder_of(root, key).glob("*.array_record"))


def partials_of(root: Path, key: StoreKey) -> list[Path]:
    return sorted(folder_of(root, key).glob(".*.partial"))


def records(path: Path) -> list[bytes]:
    reader = ArrayRecordReader(str(path), "")
    contents = reader.read_all()
    reader.close()
    return contents


def rewrite(path: Path, new_records: list[bytes]) -> None:
    """Replaces a shard's records, with valid ArrayRecord hashes."""
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for record in new_records:
        writer.write(record)
    writer.close()
