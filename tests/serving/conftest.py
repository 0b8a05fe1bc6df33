"""One server per process of the suite, with two watched videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.server import Server, make_video, running_server


@pytest.fixture(scope="session", name="shared")
def shared_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="session", name="videos")
def videos_fixture(shared: Path) -> list[Path]:
    return [make_video(shared / f"{i}.mp4", seconds=4 + i, seed=i) for i in range(2)]


@pytest.fixture(scope="session", name="server")
def server_fixture(shared: Path, videos: list[Path]) -> Iterator[Server]:
    folder = shared / "server"
    options = ("--allow-folder", str(shared / "allowed"), "--max-upload-mib", "320")
    options += ("--max-frames", "4096", "--max-parallel", "24")
    (shared / "allowed").mkdir()
    with running_server(folder, *options, shared=shared) as server:
        yield server


@pytest.fixture(scope="session", name="video_ids")
def video_ids_fixture(server: Server, videos: list[Path]) -> list[str]:
    ids = []
    for path in videos:
        video = server.watch(file_id=server.upload(path), num_frames=24)
        assert video["state"] == "ready", video
        ids.append(str(video["id"]))
    return ids
