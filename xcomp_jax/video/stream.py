"""Frames of a video that is still being written: a growing file, a pipe, any source of bytes.

ffmpeg reads from its standard input, which a thread fills; it can open nothing else. Frames are
taken at a fixed rate by the container's time stamps, so they do not depend on when bytes arrive.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio_ffmpeg

from xcomp_jax.video import ffmpeg
from xcomp_jax.video.decode import Frames, read_ppm
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.preprocess import resize_bicubic

CHUNK = 1 << 16
POLL_SECONDS = 0.1


def growing_bytes(
    path: str | Path, *, idle_seconds: float, stop: threading.Event
) -> Iterator[bytes]:
    """What is in a file and what is written to it, until nothing came for `idle_seconds`.

    A named pipe ends when its writers close it. Raises VideoError for a path that is not there.
    """
    place = ffmpeg.local_path(path)
    with place.open("rb", buffering=0) as file:
        is_pipe, last = place.is_fifo(), time.monotonic()
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
    """Yields `fps` frames a second, uint8 [size, size, 3], as bytes of a video file come in.

    Containers that can be read from the beginning work: mkv, webm, ts, ogg, avi, flv, and mp4 that
    is fragmented or has its index in front.

    Args:
        name: for messages.

    Raises:
        VideoError: no video, or one that cannot be read before its end is known.
    """
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
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
            stderr=said,
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
            said.seek(0)
            error = ffmpeg.refused(Path(name), returncode, said.read())
            raise VideoError(
                error.path,
                error.reason,
                "A stream has to be readable from its beginning: write mkv, webm or ts, or "
                "fragmented mp4 (-movflags frag_keyframe).",
            )


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes]) -> None:
    assert process.stdin is not None
    # ffmpeg may have given up, or have been ended: the reader of its output says why.
    with contextlib.suppress(BrokenPipeError, ValueError), process.stdin as pipe:
        for chunk in chunks:
            pipe.write(chunk)
            pipe.flush()
