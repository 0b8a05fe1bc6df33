"""Disks that are full and folders that may not be written: one clear paragraph."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.token_store import workers
from tests.token_store.made import (
    contents,
    folder_of,
    made_clips,
    made_key,
    partials_of,
)
from tests.token_store.workers import started
from xcomp_jax.token_store import TokenStore, TokenStoreError, hash_video

KEY, NEW = made_key(0), made_key(1)


def is_one_clear_paragraph(message: str, root: Path) -> bool:
    return "\n" not in message and str(root) in message and "Free some space" in message


def test_a_full_disk(tmp_path: Path) -> None:
    video = TokenStore(tmp_path).video(KEY)
    video.write(made_clips(KEY, range(8)))
    process, connection = started(workers.write_to_full_disk, tmp_path, KEY)
    message = connection.recv()
    process.join()
    assert process.exitcode == 0
    assert is_one_clear_paragraph(message, tmp_path)
    assert "too large" in message  # what the system says when a file may not grow
    assert partials_of(tmp_path, KEY) == []
    assert contents(video.read(range(16))) == contents(made_clips(KEY, range(8)))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can read, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)


def test_a_store_that_can_only_be_read(public: Path) -> None:
    root = public / "store"
    TokenStore(root).video(KEY).write(made_clips(KEY, range(8)))
    (folder_of(root, KEY) / ".0123.array_record.partial").touch()
    (public / "a.mp4").write_bytes(b"a video")
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    process, connection = started(workers.use_without_permission, root, KEY, NEW, public / "a.mp4")
    try:
        assert connection.recv() == contents(made_clips(KEY, range(8)))
        assert connection.recv() == hash_video(public / "a.mp4")
        for _ in (KEY, NEW):
            message = connection.recv()
            assert is_one_clear_paragraph(message, root)
            assert "Permission denied" in message
        process.join()
        assert process.exitcode == 0
    finally:
        root.chmod(0o755)


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TokenStoreError) as caught:
        TokenStore(tmp_path / "file" / "store")
    assert is_one_clear_paragraph(str(caught.value), tmp_path / "file" / "store")
