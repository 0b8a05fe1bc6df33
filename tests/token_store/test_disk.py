"""Tests full disks and read-only folders: errors of one clear paragraph."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.token_store import workers
from tests.token_store.examples import (
    contents,
    example_clips,
    example_key,
    folder_of,
    partials_of,
)
from tests.token_store.workers import start_process
from xcomp_jax.token_store import TokenStore, TokenStoreError, hash_video

KEY, NEW = example_key(0), example_key(1)


def is_one_clear_paragraph(message: str, root: Path) -> bool:
    return "\n" not in message and str(root) in message and "Free some space" in message


def test_write_full_disk_keeps_earlier_clips(tmp_path: Path) -> None:
    video = TokenStore(tmp_path).video(KEY)
    video.write(example_clips(KEY, range(8)))
    process, connection = start_process(workers.write_to_full_disk, tmp_path, KEY)
    message = connection.recv()
    process.join()
    assert process.exitcode == 0
    assert is_one_clear_paragraph(message, tmp_path)
    assert "too large" in message  # The system's error when a file exceeds the limit.
    assert partials_of(tmp_path, KEY) == []
    assert contents(video.read(range(16))) == contents(example_clips(KEY, range(8)))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can read, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)


def test_store_read_only_reads_and_refuses_writes(public: Path) -> None:
    root = public / "store"
    TokenStore(root).video(KEY).write(example_clips(KEY, range(8)))
    (folder_of(root, KEY) / ".0123.array_record.partial").touch()
    (public / "a.mp4").write_bytes(b"a video")
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    process, connection = start_process(
        workers.use_without_permission, root, KEY, NEW, public / "a.mp4"
    )
    try:
        assert connection.recv() == contents(example_clips(KEY, range(8)))
        assert connection.recv() == hash_video(public / "a.mp4")
        for _ in (KEY, NEW):
            message = connection.recv()
            assert is_one_clear_paragraph(message, root)
            assert "Permission denied" in message
        process.join()
        assert process.exitcode == 0
    finally:
        root.chmod(0o755)


def test_store_root_below_a_file_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TokenStoreError) as error:
        TokenStore(tmp_path / "file" / "store")
    assert is_one_clear_paragraph(str(error.value), tmp_path / "file" / "store")
