"""Tests what a server keeps on disk: uploads, media of requests, and the list of videos."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xcomp_jax.serving import files, resolve
from xcomp_jax.serving.chat_request import Media
from xcomp_jax.serving.errors import ApiError, api_error_of
from xcomp_jax.serving.files import FileStore
from xcomp_jax.serving.frame_request import FrameRequest
from xcomp_jax.serving.library import Library
from xcomp_jax.serving.media import MediaStore
from xcomp_jax.serving.multipart import Upload
from xcomp_jax.serving.resolve import Resolver
from xcomp_jax.serving.settings import Limits, ServingConfig
from xcomp_jax.serving.uploads import Uploads
from xcomp_jax.serving.video import Source, Video


def test_library_load_keeps_videos_added_before(tmp_path: Path) -> None:
    watched: list[Video] = []

    def watch(video: Video, /, *, bounded: bool = True) -> None:
        watched.append(video)

    path = tmp_path / "a.mp4"
    path.touch()
    library = Library(tmp_path / "videos", None, watch)
    video = library.add(Source("a", path, "a.mp4"), FrameRequest(), None)
    library.load()
    assert watched == [video]
    # Control: a restarted server watches it.
    Library(tmp_path / "videos", None, watch).load()
    assert [known.id for known in watched] == [video.id] * 2


def test_media_store_stores_while_others_store(tmp_path: Path) -> None:
    store = MediaStore(tmp_path / "media", Limits(quota_bytes=80_000))

    def stored(number: int) -> Path:
        return store.video(number.to_bytes(2, "big") * 250).path

    with ThreadPoolExecutor(16) as pool:
        paths = set(pool.map(stored, range(600)))
    kept = {path for path in paths if path.exists()}
    assert len(paths) == 600
    assert 1 <= len(kept) <= 40
    assert {folder / "content" for folder in store.root.iterdir()} == kept


def test_file_store_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "files", Limits())

    def add() -> None:
        partial = store.new_partial()
        partial.write_bytes(b"12345")
        store.reserve(5)
        store.add(partial, "a.mp4", "user_data")

    add()

    def fail(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "write_json", fail)
    with pytest.raises(OSError, match="No space") as caught:
        add()
    assert store.used_bytes == 5
    assert len(list(store.root.iterdir())) == 1
    assert not list(store.partial_folder.iterdir())
    error = api_error_of(caught.value)
    assert (error.status, error.code) == (507, "disk_full")
    assert str(tmp_path) not in error.message


def test_upload_full_disk_cancels_and_frees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "files", Limits())
    pending = Uploads(store)

    def complete(name: str) -> dict[str, object]:
        upload = pending.create(name, "user_data", 10)
        for _ in range(2):
            part = Upload(store.new_partial(), size=5)
            part.path.write_bytes(b"12345")
            store.reserve(5)
            pending.add_part(upload.id, part)
        return pending.complete(upload.id, list(upload.parts)).to_dict()

    assert complete("a.mp4")["status"] == "completed"

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="No space"):
        complete("b.mp4")
    assert store.used_bytes == 10
    assert not list(store.partial_folder.iterdir())


def test_file_store_of_killed_server_opens(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "files", Limits())
    partial = store.new_partial()
    partial.write_bytes(b"12345")
    store.reserve(5)
    file = store.add(partial, "a.mp4", "user_data")
    for name, description in (("file-1", None), ("file-2", "{"), ("file-3", "{}")):
        (store.root / name).mkdir()
        (store.root / name / "content").write_bytes(b"1")
        if description is not None:
            (store.root / name / "file.json").write_text(description)
    (store.root / "films").mkdir()
    again = FileStore(tmp_path / "files", Limits())
    assert again.all() == [file]
    # Only the upload that was never answered is deleted.
    assert {path.name for path in store.root.iterdir()} == {file.id, "file-2", "file-3", "films"}


def test_clients_own_ids_are_bounded_per_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "MAX_UUIDS", 2)
    (tmp_path / "a.mp4").touch()
    config = ServingConfig(data=tmp_path / "data", allowed_folders=(tmp_path,))
    resolver = Resolver(
        config,
        FileStore(config.data / "files", Limits()),
        MediaStore(config.data / "media", Limits()),
        Library(config.data / "videos", None, lambda video, bounded=True: None),
    )
    named = ((tmp_path / "a.mp4").as_uri(),)
    for uuid, owner, urls in [
        ("one", "first", named),
        ("two", "first", named),
        ("one", "first", ()),
        ("three", "first", named),  # "two" is forgotten
        ("four", "second", named),
    ]:
        resolver.find(Media(urls, uuid, is_frames=False), owner=owner)
    known = Media((), "one", is_frames=False)
    assert resolver.find(known, owner="first") == resolver.url(named[0])
    for uuid, owner in (("two", "first"), ("one", "second")):
        with pytest.raises(ApiError, match=f"no video with uuid '{uuid}'"):
            resolver.find(Media((), uuid, is_frames=False), owner=owner)
