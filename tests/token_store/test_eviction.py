"""Tests the size bound: order of eviction, and videos that are never evicted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.token_store import workers
from tests.token_store.examples import contents, example_clips, example_key, folder_of
from tests.token_store.workers import start_process
from xcomp_jax.token_store import TokenStore, TokenStoreError, eviction, locks

KEYS = [example_key(number) for number in range(4)]


def fill(root: Path) -> int:
    """Writes all keys in order; returns the bytes of one video."""
    store = TokenStore(root)
    for key in KEYS:
        store.video(key).write(example_clips(key, range(4)))
    return store.size_bytes() // len(KEYS)


def stored_numbers(root: Path) -> list[int]:
    return [number for number, key in enumerate(KEYS) if folder_of(root, key).exists()]


def test_evict_removes_least_recently_used_first(tmp_path: Path) -> None:
    video_bytes = fill(tmp_path)
    TokenStore(tmp_path).video(KEYS[0]).read([0])
    TokenStore(tmp_path).video(KEYS[2]).missing([0])
    store = TokenStore(tmp_path, max_bytes=2 * video_bytes + video_bytes // 2)
    assert store.evict() == [KEYS[1].digest, KEYS[3].digest]
    assert stored_numbers(tmp_path) == [0, 2]
    assert store.size_bytes() <= 2 * video_bytes + video_bytes // 2
    assert store.evict() == []


def test_write_beyond_bound_evicts_before_writing(tmp_path: Path) -> None:
    video_bytes = fill(tmp_path)
    store = TokenStore(tmp_path, max_bytes=3 * video_bytes + video_bytes // 2)
    store.video(KEYS[0]).write(example_clips(KEYS[0], range(4, 8)))
    assert stored_numbers(tmp_path) == [0, 2, 3]
    assert store.video(KEYS[0]).missing(range(8)) == []


def test_evict_without_bound_removes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    assert TokenStore(tmp_path).evict() == []
    assert stored_numbers(tmp_path) == [0, 1, 2, 3]


def test_evict_video_in_use_stays_until_process_ends(tmp_path: Path) -> None:
    fill(tmp_path)
    store = TokenStore(tmp_path, max_bytes=1)
    process, connection = start_process(workers.hold, tmp_path, KEYS[1])
    assert connection.recv() == "in use"
    with store.video(KEYS[2]) as video:  # in use by this process
        assert set(store.evict()) == {KEYS[0].digest, KEYS[3].digest}
        assert stored_numbers(tmp_path) == [1, 2]
        assert contents(video.read(range(4))) == contents(example_clips(KEYS[2], range(4)))
    process.kill()
    process.join()
    assert store.evict() == [KEYS[1].digest, KEYS[2].digest]
    assert store.contents() == []


def test_evict_without_locks_removes_video_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: only the lock protects a video in use."""
    fill(tmp_path)
    store = TokenStore(tmp_path, max_bytes=1)
    with store.video(KEYS[2]):
        monkeypatch.setattr(locks.fcntl, "flock", lambda file, kind: None)
        assert KEYS[2].digest in store.evict()


def test_write_video_larger_than_bound_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    store = TokenStore(tmp_path, max_bytes=1000)
    with store.video(KEYS[3]) as video, caplog.at_level(logging.WARNING):
        for start in range(4, 8):
            video.write(example_clips(KEYS[3], [start]))
        assert video.missing(range(8)) == []
    assert stored_numbers(tmp_path) == [3]
    assert caplog.text.count("max_bytes=1000") == 1  # not for every shard


def test_evict_after_killed_eviction_deletes_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    monkeypatch.setattr(eviction.shutil, "rmtree", lambda *_, **__: None)
    TokenStore(tmp_path, max_bytes=1).evict()
    assert stored_numbers(tmp_path) == []
    monkeypatch.undo()
    assert list(tmp_path.glob("evicted-*"))
    TokenStore(tmp_path).evict()
    assert list(tmp_path.glob("evicted-*")) == []


def test_store_bound_on_training_features_raises(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(TokenStoreError, match="holds features"):
        TokenStore(tmp_path, max_bytes=1)
    assert TokenStore(tmp_path).evict() == []


@pytest.mark.parametrize("max_bytes", [0, -1, 1e9, "1GB", True])
def test_store_invalid_bound_raises(tmp_path: Path, max_bytes: Any) -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        TokenStore(tmp_path / "new", max_bytes=max_bytes)
    assert not (tmp_path / "new").exists()
