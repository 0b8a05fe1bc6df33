"""Decodes frames of one video stream in a single ffmpeg pass, each with its time.

ffmpeg drops all other frames itself (`select` filter). It sends the rest as PPM images, whose
headers carry the size, through one pipe, and the time of each through another. The video is never
held in memory as a whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video import ffmpeg
from xcomp_jax.video.damage import Damage
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.packets import PacketList
from xcomp_jax.video.ppm import Frame, read_ppm
from xcomp_jax.video.select_filter import select_expression

DECODER_ERROR = re.compile(
    rb"^\[(?!null|image2pipe|out#|vost|vf#|in#|Parsed_)\w[^\]]* @ \w+\] (?:\[[^\]]*\] )*\[error\]",
    re.MULTILINE,
)
"""Error of a decoder, not of a muxer or filter."""

TimedFrames = Generator[tuple[int | None, Frame], None, None]


def timed_frames(
    path: Path,
    packets: PacketList,
    values: Sequence[int],
    *,
    count: int,
    size: int | None,
    damage: Damage,
    threads: int,
    timeout: float,
) -> TimedFrames:
    """Yields (tick, frame) for `values` in order; fewer if some cannot be decoded.

    The tick is None if the stream has no times.

    Args:
        packets: packets of the stream.
        values: sorted, distinct ticks, or frame numbers if `packets` has no times.
        count: number of frames after which decoding stops.
        size: side to which ffmpeg scales the frames; None keeps the native size.
        damage: its count of repaired frames is kept up to date.

    Raises:
        VideoError: ffmpeg fails, or a frame takes longer than `timeout` seconds.
    """
    filters = f"select='{select_expression(values, 'pts' if packets.is_timed else 'n')}'"
    if size is not None:
        filters += f",scale={size}:{size}:flags=bicubic"
    # With thousands of scattered frames the filter exceeds the length of a command line.
    with tempfile.NamedTemporaryFile("w", suffix=".filter") as script:
        script.write(filters)
        script.flush()
        output = ["-/filter:v", script.name, "-frames:v", str(count)]
        output += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
        with _running(path, packets, output, threads) as (process, ticks, messages):
            while (frame := _next_frame(process, path, timeout)) is not None:
                line = ticks.readline()
                damage.concealed = max(damage.concealed, messages.repaired())
                yield (int(line) if packets.is_timed and line.strip() else None), frame
            _finish(process, path, messages, timeout)
            damage.concealed = max(damage.concealed, messages.repaired())


def decodable_ticks(
    path: Path, packets: PacketList, *, damage: Damage, threads: int, timeout: float
) -> NDArray[np.int64]:
    """Decodes the whole stream; returns the sorted ticks of its frames.

    Arguments as in `timed_frames`.

    Raises:
        VideoError: as `timed_frames`.
    """
    values = []
    with _running(path, packets, ["-f", "null", "-"], threads) as (process, ticks, messages):
        while True:
            with _deadline(process, path, timeout):
                line = ticks.readline()
            if not line:
                break
            values.append(int(line))
        _finish(process, path, messages, timeout)
        damage.concealed = max(damage.concealed, messages.repaired())
    return np.sort(np.array(values, np.int64))


class _Messages:
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
def _running(
    path: Path, packets: PacketList, output: list[str], threads: int
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], _Messages]]:
    """Runs ffmpeg; yields the process, the pipe of ticks and the messages."""
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb") as ticks,
        tempfile.NamedTemporaryFile() as written,
        Path(written.name).open("rb") as messages,
    ):
        try:
            process = subprocess.Popen(
                [
                    *ffmpeg.input_arguments(path, threads=threads, stream=packets.stream),
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
            yield process, ticks, _Messages(messages)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _next_frame(process: subprocess.Popen[bytes], path: Path, timeout: float) -> Frame | None:
    assert process.stdout is not None
    with _deadline(process, path, timeout):
        return read_ppm(process.stdout)


def _finish(
    process: subprocess.Popen[bytes], path: Path, messages: _Messages, timeout: float
) -> None:
    """Waits for the end of ffmpeg; raises VideoError if it failed."""
    with _deadline(process, path, timeout):
        returncode = process.wait()
    if returncode != 0:
        raise ffmpeg.failure(path, returncode, messages.all())


@contextlib.contextmanager
def _deadline(process: subprocess.Popen[bytes], path: Path, seconds: float) -> Iterator[None]:
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
