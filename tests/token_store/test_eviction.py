"""The bound on size: who goes first, who is never removed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.token_store import workers
from tests.token_store.made import contents, folder_of, made_clips, made_key
from tests.token_store.workers import started
from xcomp_jax.token_store import TokenStore, TokenStoreError, eviction, locks

KEYS = [made_key(number) for number in range(4)]


def filled(root: Path) -> int:
    """Writes all keys, the first one first; returns the bytes of one video."""
    store = TokenStore(root)
    for key in KEYS:
        store.video(key).write(made_clips(key, range(4)))
    return store.size_bytes() // len(KEYS)


def stored(root: Path) -> list[int]:
    return [number for number, key in enumerate(KEYS) if folder_of(root, key).exists()]


def test_least_recently_used_videos_go_first(tmp_path: Path) -> None:
    one = filled(tmp_path)
    TokenStore(tmp_path).video(KEYS[0]).read([0])
    TokenStore(tmp_path).video(KEYS[2]).missing([0])
    store = TokenStore(tmp_path, max_bytes=2 * one + one // 2)
    assert store.evict() == [KEYS[1].digest, KEYS[3].digest]
    assert stored(tmp_path) == [0, 2]
    assert store.size_bytes() <= 2 * one + one // 2
    assert store.evict() == []


def test_writing_makes_room_first(tmp_path: Path) -> None:
    one = filled(tmp_path)
    store = TokenStore(tmp_path, max_bytes=3 * one + one // 2)
    store.video(KEYS[0]).write(made_clips(KEYS[0], range(4, 8)))
    assert stored(tmp_path) == [0, 2, 3]
    assert store.video(KEYS[0]).missing(range(8)) == []


def test_without_a_bound_nothing_goes(tmp_path: Path) -> None:
    filled(tmp_path)
    assert TokenStore(tmp_path).evict() == []
    assert stored(tmp_path) == [0, 1, 2, 3]


def test_a_video_in_use_stays_until_its_process_ends(tmp_path: Path) -> None:
    filled(tmp_path)
    store = TokenStore(tmp_path, max_bytes=1)
    process, connection = started(workers.hold, tmp_path, KEYS[1])
    assert connection.recv() == "in use"
    with store.video(KEYS[2]) as here:  # the same holds within one process
        assert set(store.evict()) == {KEYS[0].digest, KEYS[3].digest}
        assert stored(tmp_path) == [1, 2]
        assert contents(here.read(range(4))) == contents(made_clips(KEYS[2], range(4)))
    process.kill()
    process.join()
    assert store.evict() == [KEYS[1].digest, KEYS[2].digest]
    assert store.contents() == []


def test_control_without_locks_a_video_in_use_would_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    store = TokenStore(tmp_path, max_bytes=1)
    with store.video(KEYS[2]):
        monkeypatch.setattr(locks.fcntl, "flock", lambda file, kind: None)
        assert KEYS[2].digest in store.evict()


def test_a_video_larger_than_the_bound_can_still_be_worked_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path)
    store = TokenStore(tmp_path, max_bytes=1000)
    with store.video(KEYS[3]) as video, caplog.at_level(logging.WARNING):
        for start in range(4, 8):
            video.write(made_clips(KEYS[3], [start]))
        assert video.missing(range(8)) == []
    assert stored(tmp_path) == [3]
    assert caplog.text.count("max_bytes=1000") == 1  # once, not for every shard


def test_an_eviction_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    monkeypatch.setattr(eviction.shutil, "rmtree", lambda *_, **__: None)
    TokenStore(tmp_path, max_bytes=1).evict()
    assert stored(tmp_path) == []
    monkeypatch.undo()
    assert list(tmp_path.glob("evicted-*"))
    TokenStore(tmp_path).evict()
    assert list(tmp_path.glob("evicted-*")) == []


def test_features_to_train_from_never_make_room(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(TokenStoreError, match="holds features"):
        TokenStore(tmp_path, max_bytes=1)
    assert TokenStore(tmp_path).evict() == []


@pytest.mark.parametrize("max_bytes", [0, -1, 1e9, "1GB", True])
def test_a_bound_that_cannot_be_is_refused(tmp_path: Path, max_bytes: Any) -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        TokenStore(tmp_path / "new", max_bytes=max_bytes)
    assert not (tmp_path / "new").exists()
