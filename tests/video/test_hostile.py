"""Tests hostile and broken inputs: a prompt one-paragraph VideoError, and no other file opened."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.video.clips import CODECS, ffmpeg, numbers, write_clip
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import probe


def first_half(source: Path, path: Path) -> Path:
    content = source.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def hls(path: Path, target: str) -> Path:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n"
    path.write_text(f"{head}{target}\n#EXT-X-ENDLIST\n")
    return path


def ffconcat(path: Path, target: str) -> Path:
    path.write_text(f"ffconcat version 1.0\nfile '{target}'\n")
    return path


def refusal(path: str | Path) -> str:
    """Asserts that probe and read_frames fail with one paragraph naming the path; returns it."""
    messages = []
    attempts: tuple[Callable[[], object], ...] = (
        lambda: probe(path),
        lambda: list(read_frames(path, [0, 1])),
    )
    for attempt in attempts:
        start = time.monotonic()
        with pytest.raises(VideoError) as error:
            attempt()
        assert time.monotonic() - start < 20
        message = str(error.value)
        assert "\n" not in message
        assert Path(path).name in message
        messages.append(message)
    return messages[0]


@pytest.mark.parametrize("name", ["no.mp4", "no/such/folder", "-i", "-version", "-"])
def test_local_path_missing_file_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no such file or folder" in refusal(name)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/a.mp4",
        "https://example.org/a.mp4",
        "file:/etc/hostname",
        "concat:a.mp4|b.mp4",
        "pipe:0",
        "data:video/mp4;base64,AAAA",
        "gs://bucket/a.mp4",
    ],
)
def test_local_path_url_raises(url: str) -> None:
    assert "only local files are supported" in refusal(url)


def test_local_path_invalid_string_raises() -> None:
    for path in ("", "a\0b"):
        with pytest.raises(VideoError, match="not a path"):
            probe(path)
    with pytest.raises(VideoError, match="cannot be opened"):
        probe("x" * 5000)


def test_read_frames_name_like_option_is_a_file_name(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-i.mp4", "concat:a|b.mp4", "it's, [a] test; %03d.mp4", "日本 語.mp4"):
        Path(name).write_bytes(clips["mp4"].read_bytes())
        assert probe(name).num_frames == 75
        assert numbers(read_frames(name, [3, 70])) == [3, 70]


def test_probe_empty_or_random_file_raises(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "empty" in refusal(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("this is no video " * 100)
    refusal(tmp_path / "text.mp4")
    (tmp_path / "noise.mkv").write_bytes(os.urandom(5000))
    refusal(tmp_path / "noise.mkv")


def test_probe_audio_only_raises(tmp_path: Path) -> None:
    for name in ("sound.mp4", "sound.ogg"):
        ffmpeg("-f", "lavfi", "-i", "sine=duration=0.5", str(tmp_path / name))
        assert "no video stream" in refusal(tmp_path / name)


def test_probe_folder_without_images_raises(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "has no images" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi"])
def test_probe_truncated_file_raises(clips: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    path = first_half(clips[suffix], tmp_path / f"half.{suffix}")
    with pytest.raises(VideoError, match="truncated"):
        probe(path)
    with pytest.raises(VideoError):
        list(read_frames(path, range(75)))


def test_probe_truncated_mp4_with_index_in_front_raises(tmp_path: Path) -> None:
    options = [*CODECS["mp4"], "-movflags", "+faststart"]
    path = first_half(write_clip(tmp_path / "w.mp4", 75, options=options), tmp_path / "half.mp4")
    with pytest.raises(VideoError, match="truncated"):
        probe(path)
    with pytest.raises(VideoError):
        list(read_frames(path, range(75)))


def test_probe_named_pipe_raises_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.mp4")


def test_probe_hanging_ffmpeg_times_out(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(clips["mp4"])
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(sleeper))
    start = time.monotonic()
    with pytest.raises(VideoError, match=r"did not finish within 0\.3 s"):
        probe(clips["mp4"], timeout=0.3)
    with pytest.raises(VideoError, match=r"no frame for 0\.3 s"):
        list(read_frames(info, [0], timeout=0.3))
    assert time.monotonic() - start < 10


# --- playlists and scripts ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "avi", "txt", "mkv"])
def test_probe_playlist_does_not_open_its_files(
    clips: dict[str, Path], tmp_path: Path, suffix: str
) -> None:
    refusal(hls(tmp_path / f"hls.{suffix}", str(clips["mp4"])))
    refusal(ffconcat(tmp_path / f"concat.{suffix}", str(clips["mp4"])))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


def test_probe_playlist_does_not_connect(listener: socket.socket, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
    for suffix in ("mp4", "m3u8", "ffconcat"):
        refusal(hls(tmp_path / f"hls.{suffix}", url))
        refusal(ffconcat(tmp_path / f"concat.{suffix}", url))
    refusal(url)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_ffmpeg_without_whitelists_connects(listener: socket.socket, tmp_path: Path) -> None:
    """Control: without the whitelists, ffmpeg connects to the URL in the script."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
    script = ffconcat(tmp_path / "concat.mp4", url)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-nostdin", "-safe", "0"]
    command += ["-f", "concat", "-protocol_whitelist", "file,http,tcp", "-i", str(script)]
    process = subprocess.Popen([*command, "-f", "null", "-"])
    try:
        listener.accept()[0].close()
    finally:
        process.kill()
        process.wait()
