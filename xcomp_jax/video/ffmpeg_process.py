"""Runs ffmpeg on one video stream; reads its frames, their times and its messages."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from xcomp_jax.video import ffmpeg
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.packets import PacketList
from xcomp_jax.video.ppm import Frame, read_ppm

DECODER_ERROR = re.compile(
    rb"^\[(?!null|image2pipe|out#|vost|vf#|in#|Parsed_)\w[^\]]* @ \w+\] (?:\[[^\]]*\] )*\[error\]",
    re.MULTILINE,
)
"""Error of a decoder, not of a muxer or filter."""


class Messages:
    """Reads ffmpeg's messages while it writes them, and counts repaired frames."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._repaired, self._errors, self._rest = file, 0, 0, b""

    def repaired(self) -> int:
        """Returns the number of frames that the decoder has repaired so far.

        Some decoders report errors without naming frames; they count as one frame.
        """
        lines, _, self._rest = (self._rest + self._file.read()).rpartition(b"\n")
        self._repaired += lines.count(b"corrupt decoded frame")
        self._errors += len(DECODER_ERROR.findall(lines))
        return max(self._repaired, min(self._errors, 1))

    def all(self) -> bytes:
        """Returns all messages."""
        self._file.seek(0)
        return self._file.read()


@contextlib.contextmanager
def running(
    path: Path,
    packets: PacketList,
    output: list[str],
    *,
    threads: int,
    input_options: Sequence[str] = (),
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], Messages]]:
    """Runs ffmpeg; yields the process, the pipe of ticks and the messages.

    Args:
        output: options and names of the outputs; the first is the process's stdout.
        threads: decoder threads.
        input_options: options of the input besides those of `ffmpeg.input_arguments`.
    """
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb") as ticks,
        tempfile.NamedTemporaryFile() as written,
        Path(written.name).open("rb") as messages,
    ):
        try:
            process = subprocess.Popen(
                [
                    *ffmpeg.input_arguments(
                        path, threads=threads, stream=packets.stream, options=input_options
                    ),
                    *("-fps_mode", "passthrough"),
                    *("-stats_mux_pre", f"pipe:{writer}", "-stats_mux_pre_fmt", "{ptsi}"),
                    *output,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=written,
                pass_fds=(writer,),
            )
        finally:
            os.close(writer)
        try:
            yield process, ticks, Messages(messages)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def next_frame(process: subprocess.Popen[bytes], path: Path, timeout: float) -> Frame | None:
    """Reads the next frame; None at the end of the output."""
    assert process.stdout is not None
    with deadline(process, path, timeout):
        return read_ppm(process.stdout)


def finish(
    process: subprocess.Popen[bytes], path: Path, messages: Messages, timeout: float
) -> None:
    """Waits for the end of ffmpeg; raises VideoError if it failed."""
    with deadline(process, path, timeout):
        returncode = process.wait()
    if returncode != 0:
        raise ffmpeg.failure(path, returncode, messages.all())


@contextlib.contextmanager
def deadline(process: subprocess.Popen[bytes], path: Path, seconds: float) -> Iterator[None]:
    """Kills `process` and raises VideoError if the block takes longer."""
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if expired.is_set():
        raise VideoError(
            path,
            f"ffmpeg delivered no frame for {seconds:g} s",
            "Check that the storage responds, or raise `timeout`.",
        )
