"""Tests damaged shards: detected, logged, deleted, writable again, never returned as clips."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.token_store.damage import (
    CLIPS,
    FIRST,
    IN_FILE,
    IN_RECORDS,
    KEY,
    changed_data,
    changed_header,
    flipped_in_data,
    swapped_clips,
)
from tests.token_store.examples import contents, folder_of, shards_of
from xcomp_jax.token_store import TokenStore, sealed, shards

SECOND = range(8, 16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two shards of 8 clips each."""
    video = TokenStore(tmp_path / "store").video(KEY)
    for starts in (FIRST, SECOND):
        video.write({start: CLIPS[start] for start in starts})
    return tmp_path / "store"


def shard_with(root: Path, start: int) -> Path:
    (shard,) = (
        path
        for path in shards_of(root, KEY)
        if start in shards.read_header(path, KEY.digest).starts
    )
    return shard


@pytest.mark.parametrize("damage", IN_FILE + IN_RECORDS)
def test_read_damaged_shard_discards_it_and_can_rewrite(
    root: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = shard_with(root, 3)
    damage(path)
    video = TokenStore(root).video(KEY)
    with caplog.at_level(logging.WARNING):
        read = video.read(range(16))
    for start, clip in read.items():
        assert clip.tobytes() == CLIPS[start].tobytes()
    assert 3 not in read
    assert read.keys() >= set(SECOND)
    assert caplog.text.count(str(path)) == 1
    assert "corrupted" in caplog.text
    assert not path.exists()
    for handle in (video, TokenStore(root).video(KEY)):
        assert handle.missing(range(16)) == list(FIRST)
    video.write({start: CLIPS[start] for start in video.missing(range(16))})
    assert contents(TokenStore(root).video(KEY).read(range(16))) == contents(CLIPS)


@pytest.mark.parametrize("damage", [flipped_in_data, changed_data, changed_header])
def test_read_damage_after_header_was_cached_is_detected(
    root: Path, damage: Callable[[Path], None]
) -> None:
    video = TokenStore(root).video(KEY)
    assert video.missing(range(16)) == []
    damage(shard_with(root, 3))
    read = video.read([3, 4, 9])
    assert all(clip.tobytes() == CLIPS[start].tobytes() for start, clip in read.items())
    assert 9 in read


@pytest.mark.parametrize("damage", [changed_data, swapped_clips])
def test_read_without_clip_checksum_returns_changed_clip(
    root: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(shard_with(root, 3))
    monkeypatch.setattr(shards, "clip_matches", lambda data, sha256: True)
    read = TokenStore(root).video(KEY).read([3])
    assert read[3].tobytes() != CLIPS[3].tobytes()


def test_read_without_seal_returns_swapped_clip(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: only the seal detects a changed header."""
    changed_header(shard_with(root, 3))
    monkeypatch.setattr(sealed, "checksum_matches", lambda checksum, content: True)
    monkeypatch.setattr(shards, "clip_matches", lambda data, sha256: True)
    read = TokenStore(root).video(KEY).read([4])
    assert read[4].tobytes() == CLIPS[3].tobytes()


def test_read_flipped_byte_is_detected_by_array_record(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ArrayRecord's own hashes detect it even without the checksums in the header."""
    flipped_in_data(shard_with(root, 3))
    monkeypatch.setattr(shards, "clip_matches", lambda data, sha256: True)
    assert TokenStore(root).video(KEY).read([3]) == {}


def test_read_random_damage_never_returns_wrong_clip(root: Path) -> None:
    path = shard_with(root, 3)
    whole, draw = path.read_bytes(), random.Random(0)
    removed = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 8])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        read = TokenStore(root).video(KEY).read(FIRST)
        assert all(clip.tobytes() == CLIPS[start].tobytes() for start, clip in read.items())
        removed += not path.exists()
    assert 30 < removed < 300  # Flips in the padding between records are harmless.


def test_verify_damaged_clip_discards_its_shard(root: Path) -> None:
    video = TokenStore(root).video(KEY)
    assert video.verify() == []
    flipped_in_data(shard_with(root, 3))
    assert video.missing(range(16)) == []  # headers only
    assert video.verify() == list(FIRST)
    assert video.missing(range(16)) == list(FIRST)
    assert contents(video.read(range(16))) == contents({s: CLIPS[s] for s in SECOND})


def test_read_damaged_clip_uses_duplicate_shard(root: Path) -> None:
    damaged = shard_with(root, 3)
    TokenStore(root).video(KEY).write({start: CLIPS[start] for start in range(2, 6)})
    flipped_in_data(damaged)
    video = TokenStore(root).video(KEY)
    assert video.read([3])[3].tobytes() == CLIPS[3].tobytes()
    video.verify()
    assert video.missing(range(16)) == [0, 1, 6, 7]


def test_store_unrelated_files_stay_untouched(root: Path) -> None:
    unrelated = [folder_of(root, KEY) / name for name in ("notes.txt", ".array_record", "a.png")]
    for path in unrelated:
        path.write_text("unrelated")
    (root / "README").write_text("unrelated")
    video = TokenStore(root).video(KEY)
    assert contents(video.read(range(16))) == contents(CLIPS)
    video.write({0: CLIPS[0]})
    assert all(path.read_text() == "unrelated" for path in unrelated)


def test_read_unopenable_shard_raises_and_keeps_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error such as too many open files must not delete clips."""
    video = TokenStore(root).video(KEY)
    original = Path.open

    def failing(path: Path, *mode: str) -> object:
        if path.suffix == shards.SUFFIX:
            raise OSError(24, "Too many open files")
        return original(path, *mode)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(OSError, match="Too many open files"):
        video.read([3])
    monkeypatch.undo()
    assert contents(video.read(range(16))) == contents(CLIPS)
