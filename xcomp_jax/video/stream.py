"""Decodes a video that is still being written: a growing file, a pipe, or any source of bytes.

A thread feeds ffmpeg's standard input, the only source it may open. Frames are taken at a fixed
rate by the container's time stamps, so they do not depend on when the bytes arrive.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio_ffmpeg

from xcomp_jax.video import ffmpeg
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.ppm import Frames, read_ppm
from xcomp_jax.video.preprocess import resize_bicubic

CHUNK = 1 << 16
POLL_SECONDS = 0.1


def growing_file(path: str | Path) -> Path:
    """Returns the absolute path of a file or named pipe that can be read.

    Raises:
        VideoError: it does not exist, is a folder, or cannot be read.
    """
    source = ffmpeg.local_path(path)
    if source.is_dir():
        raise VideoError(path, "is a folder", "Follow a file or a named pipe.")
    if not os.access(source, os.R_OK):
        raise VideoError(path, "cannot be read", ffmpeg.CHECK_PATH)
    return source


def growing_bytes(
    path: str | Path, *, idle_seconds: float, stop: threading.Event
) -> Iterator[bytes]:
    """Yields the bytes of a file and everything appended to it later.

    Ends when nothing was appended for `idle_seconds`, when `stop` is set, or, for a named pipe,
    when its writers close it.

    Raises:
        VideoError: as `growing_file`.
    """
    source = growing_file(path)
    with source.open("rb", buffering=0) as file:
        is_pipe, last = source.is_fifo(), time.monotonic()
        while not stop.is_set():
            chunk = file.read(CHUNK)
            if chunk:
                last = time.monotonic()
                yield chunk
            elif is_pipe or time.monotonic() - last > idle_seconds:
                return
            else:
                stop.wait(POLL_SECONDS)


def stream_frames(chunks: Iterable[bytes], *, name: str | Path, fps: float, size: int) -> Frames:
    """Yields `fps` frames per second as uint8 [size, size, 3] while the bytes arrive.

    Supports containers that can be read from the beginning: mkv, webm, ts, ogg, avi, flv, and mp4
    that is fragmented or has its index in front.

    Args:
        chunks: bytes of a video file.
        name: name of the video in error messages.
        fps: frames per second of the video's own clock.
        size: side of the returned frames in pixels.

    Raises:
        VideoError: the bytes are not a video, or the container needs its end to be read first.
    """
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            [
                imageio_ffmpeg.get_ffmpeg_exe(),
                *("-hide_banner", "-loglevel", "error"),
                *("-protocol_whitelist", "pipe", "-format_whitelist", ffmpeg.CONTAINERS),
                *("-i", "pipe:0", "-map", "0:V:0", "-vf", f"fps={fps}"),
                *("-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        feeder = threading.Thread(target=_feed, args=(process, chunks), daemon=True)
        feeder.start()
        assert process.stdout is not None
        stack.callback(process.stdout.close)
        while (frame := read_ppm(process.stdout)) is not None:
            yield resize_bicubic(frame, size)
        returncode = process.wait()
        if returncode != 0:
            stderr.seek(0)
            error = ffmpeg.failure(Path(name), returncode, stderr.read())
            raise VideoError(
                error.path,
                error.reason,
                "A stream must be readable from its beginning: write mkv, webm or ts, or "
                "fragmented mp4 (-movflags frag_keyframe).",
            )


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes]) -> None:
    """Writes `chunks` to ffmpeg's standard input and closes it."""
    assert process.stdin is not None
    # If ffmpeg exits early, the reader of its output reports the cause.
    with contextlib.suppress(BrokenPipeError, ValueError), process.stdin as pipe:
        for chunk in chunks:
            pipe.write(chunk)
            pipe.flush()
