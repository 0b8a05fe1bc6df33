"""Tests the cache of content hashes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from xcomp_jax.token_store import TokenStore, hash_table, hash_video, sealed


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Videos that were actually read, in order."""
    read: list[Path] = []

    def counting(path: Path) -> str:
        read.append(path)
        return hash_video(path)

    monkeypatch.setattr(hash_table, "hash_video", counting)
    return read


@pytest.mark.parametrize("is_folder", [False, True])
def test_hash_table_unchanged_video_is_not_read_again(
    tmp_path: Path, folder: Path, hashed: list[Path], is_folder: bool
) -> None:
    video = folder if is_folder else folder / "1.png"
    store = TokenStore(tmp_path / "store")
    first = store.hash_video(video)
    assert first == TokenStore(tmp_path / "store").hash_video(str(video)) == hash_video(video)
    assert len(hashed) == 1
    (folder / "1.png").write_bytes(b"of another size")
    assert store.hash_video(video) == hash_video(video) != first
    assert len(hashed) == 2
    os.utime(folder / "1.png", ns=(5, 5))
    store.hash_video(video)
    assert len(hashed) == 3


@pytest.mark.parametrize("is_renamed", [False, True])
def test_hash_table_same_size_and_time_read_again(
    tmp_path: Path, folder: Path, is_renamed: bool
) -> None:
    """A file that another replaces with its size and modification time, as `cp -p` does."""
    video, store = folder / "1.png", TokenStore(tmp_path / "store")
    store.hash_video(video)
    before = video.stat()
    target = tmp_path / "new" if is_renamed else video
    target.write_bytes(bytes(before.st_size))
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    target.rename(video)
    after = video.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert store.hash_video(video) == hash_video(video)


def test_hash_table_video_changed_while_read_is_not_cached(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, store = folder / "1.png", TokenStore(tmp_path / "store")

    def growing(path: Path) -> str:
        digest = hash_video(path)
        with path.open("ab") as file:
            file.write(b"more")
        return digest

    monkeypatch.setattr(hash_table, "hash_video", growing)
    store.hash_video(video)
    assert not list((tmp_path / "store").rglob("*.json"))


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"flipped"])
def test_hash_table_damaged_entry_is_hashed_again(
    tmp_path: Path,
    folder: Path,
    damage: bytes,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video, store = folder / "1.png", TokenStore(tmp_path / "store")
    right = store.hash_video(video)
    (entry,) = (tmp_path / "store" / "hashes").glob("*.json")
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    flipped = entry.read_bytes().replace(right.encode(), wrong.encode())
    entry.write_bytes(flipped if damage == b"flipped" else damage)
    with caplog.at_level(logging.WARNING):
        assert store.hash_video(video) == right
    assert str(entry) in caplog.text
    # Control: without the checksum, the wrong hash is returned.
    entry.write_bytes(flipped)
    monkeypatch.setattr(sealed, "checksum_matches", lambda checksum, content: True)
    assert store.hash_video(video) == wrong
