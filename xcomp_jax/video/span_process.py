"""Decodes the frames of one span in an ffmpeg process of its own, and checks each of them.

ffmpeg seeks at most once, to the span's first packet or before. Which packets reach its decoder and
which frames leave it depends on their times alone, so a seek that lands elsewhere changes no frame:
the first decoded packet is compared with the planned one.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video.ffmpeg_process import Messages, next_frame, running
from xcomp_jax.video.packet_bytes import PacketBytes
from xcomp_jax.video.packets import PacketList
from xcomp_jax.video.ppm import Frame
from xcomp_jax.video.read_plan import Span, kept_packets, kept_runs
from xcomp_jax.video.select_filter import interval_expression, select_expression

LANDING_SECONDS = 5.0
"""Longest wait for the line about the first packet, once its frame has arrived."""


TimedFrames = Generator[tuple[int, Frame], None, None]


class SpanError(Exception):
    """Raised when a span's frames cannot be guaranteed; the message gives the reason."""


def span_frames(
    path: Path,
    packets: PacketList,
    span: Span,
    *,
    size: int | None,
    threads: int,
    timeout: float,
    started: Callable[[subprocess.Popen[bytes]], None],
) -> TimedFrames:
    """Yields (tick, frame) of a span in order of time.

    Args:
        size: side to which ffmpeg scales the frames; None keeps the native size.
        threads: decoder threads.
        started: is called with the process.

    Raises:
        SpanError: a frame is missing or has another size than the video's first, the decoder
            reports an error, or the seek landed behind the first packet.
        VideoError: ffmpeg fails, or a frame takes longer than `timeout` seconds.
    """
    order = packets.decode_order
    assert order is not None
    kept = kept_packets(packets, span, unreferenced_packets(path, packets, span))
    expected = span.ticks
    filters = f"select='{select_expression(expected, 'pts')}'"
    if size is not None:
        filters += f",scale={size}:{size}:flags=bicubic"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = interval_expression(kept_runs(order, kept), "pts")
        (folder / "packets").write_text(f"noise=drop='not({runs})'")
        (folder / "filter").write_text(filters)
        first = folder / "first"
        options = ["-/bsf:v", str(folder / "packets")]
        if span.seeks:
            options += _seek_options(packets, span)
        output = ["-/filter:v", str(folder / "filter"), "-frames:v", str(len(expected))]
        output += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"]
        # A second output copies the first packet that the decoder gets.
        output += ["-map", "0:V:0" if packets.stream is None else f"0:{packets.stream}"]
        output += ["-c", "copy", "-frames:v", "1", "-flush_packets", "1"]
        output += ["-f", "framecrc", f"file:{first}"]
        with running(path, packets, output, threads=threads, input_options=options) as (
            process,
            ticks,
            messages,
        ):
            started(process)
            for number, tick in enumerate(expected):
                frame = next_frame(process, path, timeout)
                if frame is None:
                    raise SpanError("a frame is missing")
                if number == 0:
                    _check_landing(first, packets, span)
                if size is None:
                    _check_size(frame, packets)
                if int(ticks.readline() or -1) != tick:
                    raise SpanError("a frame has another time than its packet")
                _check_messages(messages)
                yield tick, frame


def unreferenced_packets(path: Path, packets: PacketList, span: Span) -> NDArray[np.int64]:
    """Returns the numbers of packets of a span to which no other packet of their group refers."""
    order = packets.decode_order
    assert order is not None
    unreferenced: list[int] = []
    if order.codec in ("h264", "hevc"):
        with PacketBytes(path, order) as reader:
            for group in span.groups:
                numbers = range(group.first, group.last + 1)
                roles = [(number, *reader.unreferenced(number)) for number in numbers]
                top = max(layer for _, _, layer in roles)
                unreferenced += [number for number, free, layer in roles if free and layer == top]
    return np.array(unreferenced, np.int64)


def _seek_options(packets: PacketList, span: Span) -> list[str]:
    """Returns the options that seek to the span's first packet and keep the times of one pass."""
    order = packets.decode_order
    assert order is not None
    seconds = float(int(order.ticks[span.groups[0].first]) * packets.time_base)
    if seconds <= 0:
        return []
    return ["-copyts", "-start_at_zero", "-noaccurate_seek", "-ss", f"{seconds:.6f}"]


def _check_landing(first: Path, packets: PacketList, span: Span) -> None:
    """Raises SpanError unless the first decoded packet is the span's first."""
    order = packets.decode_order
    assert order is not None
    number = span.groups[0].first
    end = time.monotonic() + LANDING_SECONDS
    while not (lines := _complete_lines(first)) and time.monotonic() < end:
        time.sleep(0.01)
    fields = lines[0].split(",") if lines else []
    listed = [int(order.ticks[number]), int(order.sizes[number]), int(order.checksums[number])]
    if len(fields) < 6 or [int(fields[2]), int(fields[4]), int(fields[5], 16)] != listed:
        raise SpanError("its index does not lead to the key frames")


def _check_size(frame: Frame, packets: PacketList) -> None:
    """Raises SpanError unless a frame has the size of the first, to which one pass scales all."""
    order = packets.decode_order
    assert order is not None
    width, height = order.size[::-1] if packets.is_turned else order.size
    if frame.shape[:2] != (height, width):
        raise SpanError("its frames differ in size")


def _complete_lines(listing: Path) -> list[str]:
    if not listing.exists():
        return []
    lines = listing.read_text(encoding="ascii").split("\n")[:-1]
    return [line for line in lines if line.startswith("0,")]


def _check_messages(messages: Messages) -> None:
    if messages.repaired():
        raise SpanError("the decoder reports damage")
