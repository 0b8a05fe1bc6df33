"""Kills, stops and crowds real servers."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.serving.server import chat, make_video, running_server


@pytest.mark.slow
def test_killed_server_finds_videos_in_store(shared: Path, videos: list[Path]) -> None:
    folder = shared / "killed"
    with running_server(folder, shared=shared) as server:
        file_id = server.upload(videos[0])
        video = server.watch(file_id=file_id, num_frames=24, name="Holiday")
        assert video["frames"]["encoded"] == 24
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    # Memory for one state only: every question drops those of the last one.
    with running_server(folder, "--max-memory", "0.001", shared=shared) as server:
        again = server.wait(video["id"])
        assert (again["state"], again["name"]) == ("ready", "Holiday")
        assert (again["frames"]["encoded"], again["frames"]["reused"]) == (0, 24)
        facts = server.ask(f"xcomp://{video['id']}", "What?").json()["xcomp"]
        assert (facts["frames_encoded"], facts["frames_seen"]) == (0, 24)
        assert server.metrics()["xcomp_frames_encoded_total"] == 0
        for number in range(12):
            reply = server.ask(f"xcomp://{video['id']}", f"What is shape {number}?")
            assert reply.json()["xcomp"]["frames_encoded"] == 0
        metrics = server.metrics()
        assert metrics["xcomp_memory_evictions"] > 0
        assert metrics["xcomp_memory_bytes"] < 2 << 20
        assert metrics["xcomp_frames_encoded_total"] == 0
        _check_drain(server, video["id"])


def _check_drain(server, video_id: str) -> None:  # type: ignore[no-untyped-def]
    """Stops a server while it answers: the answer ends whole, and new ones are refused."""
    part = {"type": "video_url", "video_url": {"url": f"xcomp://{video_id}"}}
    body = chat("What happens?", part, stream=True, max_tokens=180)
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert "data: [DONE]" in rest
    assert any('"finish_reason":"' in line for line in rest)
    assert server.process.wait(timeout=60) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in server.log.read_text()


@pytest.mark.slow
def test_full_queue_and_busy_key_are_refused(
    shared: Path, videos: list[Path], tmp_path: Path
) -> None:
    long = make_video(tmp_path / "long.mp4", seconds=6, seed=9)
    options = ("--max-waiting", "1", "--max-parallel", "4")
    with running_server(shared / "crowded", *options, shared=shared) as server:
        url = f"xcomp://{server.watch(file_id=server.upload(long), num_frames=24)['id']}"
        barrier = threading.Barrier(8)

        def ask(number: int) -> int:
            barrier.wait()
            reply = server.ask(url, f"What is shape {number}?", max_tokens=64)
            if reply.status_code == 429:
                assert int(reply.headers["Retry-After"]) >= 1
                assert reply.json()["error"]["code"] in ("queue_full", "too_many_requests")
            return reply.status_code

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(ask, range(8)))
        assert set(statuses) == {200, 429}
        assert server.metrics()["xcomp_refused_total"] == statuses.count(429)
        assert server.ask(url, "Still there?").status_code == 200


@pytest.mark.slow
def test_video_being_watched_lets_questions_pass(
    shared: Path, videos: list[Path], tmp_path: Path
) -> None:
    long = make_video(tmp_path / "long.mp4", seconds=300, seed=3)
    with running_server(shared / "fair", shared=shared) as server:
        short = server.watch(file_id=server.upload(videos[0]), num_frames=24)["id"]
        server.ask(f"xcomp://{short}", "What?")
        video = server.post("/v1/videos", {"file_id": server.upload(long), "num_frames": 2400})
        answered = []
        while server.http.get(f"/v1/videos/{video.json()['id']}").json()["state"] != "ready":
            begin = time.perf_counter()
            assert server.ask(f"xcomp://{short}", "What?", max_tokens=4).status_code == 200
            answered.append(time.perf_counter() - begin)
        assert len(answered) >= 5
        whole = server.http.get(f"/v1/videos/{video.json()['id']}").json()["seconds"]["wall"]
        assert max(answered) < whole / 4
