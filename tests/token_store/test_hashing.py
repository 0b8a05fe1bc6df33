"""Tests content hashes of videos and encoders."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from xcomp_jax.token_store import TokenStore, hash_encoder, hash_video
from xcomp_jax.video.errors import VideoError

MIB = 1 << 20


def peak_bytes(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- videos ------------------------------------------------------------------------------------


def test_hash_video_file_streams_its_content(tmp_path: Path) -> None:
    data = os.urandom(16 * MIB)
    (tmp_path / "a.mp4").write_bytes(data)
    (tmp_path / "b.mp4").write_bytes(data)
    assert hash_video(tmp_path / "a.mp4") == hashlib.sha256(data).hexdigest()
    assert hash_video(tmp_path / "a.mp4") == hash_video(str(tmp_path / "b.mp4"))
    assert peak_bytes(lambda: hash_video(tmp_path / "a.mp4")) < MIB


def test_hash_video_folder_covers_names_and_content(folder: Path) -> None:
    first = hash_video(folder)
    (folder / "notes.txt").write_text("no frame")
    assert hash_video(folder) == first
    (folder / "2.png").rename(folder / "3.png")
    renamed = hash_video(folder)
    (folder / "3.png").write_bytes(b"other")
    assert len({first, renamed, hash_video(folder)}) == 3
    moved = folder.rename(folder.with_name("elsewhere"))
    (moved / "3.png").write_bytes(bytes([2]) * 10)
    assert hash_video(moved) == renamed


def test_hash_video_bytes_moved_between_frames_differ(tmp_path: Path) -> None:
    hashes = set()
    for name, parts in [("x", (b"ab", b"c")), ("y", (b"a", b"bc"))]:
        (tmp_path / name).mkdir()
        for number, part in enumerate(parts):
            (tmp_path / name / f"{number}.png").write_bytes(part)
        hashes.add(hash_video(tmp_path / name))
    assert len(hashes) == 2


@pytest.mark.parametrize("name", ["nothing.mp4", "empty.mp4", "no_frames"])
def test_hash_video_invalid_path_raises(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "no_frames").mkdir()
    with pytest.raises(VideoError, match=name):
        hash_video(tmp_path / name)
    with pytest.raises(VideoError, match=name):
        TokenStore(tmp_path / "store").hash_video(tmp_path / name)


# --- encoders ----------------------------------------------------------------------------------

PARAMS: dict[str, Any] = {
    "vision": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)},
    "projector": {"scale": jnp.arange(4, dtype=jnp.bfloat16)},
    "step": np.float32(2),
}
CONFIG = {"heads": 4, "eps": 1e-6, "layers": (1, 2)}


def test_hash_encoder_order_and_array_type_are_ignored() -> None:
    other = {
        "step": jnp.float32(2),
        "projector": {"scale": np.asarray(PARAMS["projector"]["scale"])},
        "vision": {
            "bias": np.zeros(6)[::2],
            "kernel": np.asfortranarray(PARAMS["vision"]["kernel"]),
        },
    }
    same = hash_encoder(other, {"layers": [1, 2], "eps": 1e-6, "heads": 4})
    assert same == hash_encoder(PARAMS, CONFIG)


@pytest.mark.parametrize(
    "vision",
    [
        {"kernel": np.arange(6, dtype=np.float32).reshape(3, 2), "bias": np.zeros(3)},
        {"kernel": np.arange(6, dtype=np.int32).reshape(2, 3), "bias": np.zeros(3)},
        {"kernel": np.arange(1, 7, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)},
        {"kernel2": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)},
        {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)},
    ],
    ids=["shape", "dtype", "bytes", "name", "missing"],
)
def test_hash_encoder_changed_array_differs(vision: dict[str, Any]) -> None:
    assert hash_encoder({**PARAMS, "vision": vision}, CONFIG) != hash_encoder(PARAMS, CONFIG)


def test_hash_encoder_nesting_and_config_differ() -> None:
    array = np.ones(1)
    assert hash_encoder({"a/b": array}, {}) != hash_encoder({"a": {"b": array}}, {})
    assert hash_encoder(PARAMS, {**CONFIG, "heads": 8}) != hash_encoder(PARAMS, CONFIG)


def test_hash_encoder_does_not_copy_params() -> None:
    params = {str(number): np.zeros(MIB) for number in range(4)}
    assert peak_bytes(lambda: hash_encoder(params, {})) < MIB


@pytest.mark.parametrize(
    ("params", "config"),
    [({"a": None}, {}), ({"a": "text"}, {}), ({1: np.ones(1)}, {}), ({}, {"x": object()})],
)
def test_hash_encoder_invalid_input_raises(params: Any, config: Any) -> None:
    with pytest.raises(ValueError, match="hash_encoder"):
        hash_encoder(params, config)
