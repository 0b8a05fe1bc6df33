"""Decodes frames of one video stream in a single ffmpeg pass, each with its time.

ffmpeg drops all other frames itself (`select` filter). It sends the rest as PPM images, whose
headers carry the size, through one pipe, and the time of each through another. The video is never
held in memory as a whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video.damage import Damage
from xcomp_jax.video.ffmpeg_process import deadline, finish, next_frame, running
from xcomp_jax.video.packets import PacketList
from xcomp_jax.video.ppm import Frame
from xcomp_jax.video.select_filter import select_expression

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
        with running(path, packets, output, threads=threads) as (process, ticks, messages):
            while (frame := next_frame(process, path, timeout)) is not None:
                line = ticks.readline()
                damage.concealed = max(damage.concealed, messages.repaired())
                yield (int(line) if packets.is_timed and line.strip() else None), frame
            finish(process, path, messages, timeout)
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
    with running(path, packets, ["-f", "null", "-"], threads=threads) as (process, ticks, messages):
        while True:
            with deadline(process, path, timeout):
                line = ticks.readline()
            if not line:
                break
            values.append(int(line))
        finish(process, path, messages, timeout)
        damage.concealed = max(damage.concealed, messages.repaired())
    return np.sort(np.array(values, np.int64))
