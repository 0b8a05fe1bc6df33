"""Lists the packets of a video stream, which tell the time of every frame without decoding one."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video import ffmpeg

NO_TIME = -(2**63)
"""Value that ffmpeg reports for a packet without presentation time (AVI with B-frames)."""

DISCARD, CORRUPT = 0x4, 0x2
"""Packet flags: decoded for reference but hidden by an edit list; known to be damaged."""

UNTIMED = -(10**14)
"""Times below this are none; `RISING` numbers packets from far below it."""

# The muxer replaces presentation times where decoding times do not rise (restarted clocks), so
# these become the packet's number, far below any time.
RISING = "setts=pts={}:dts=N-1000000000000000"

NEVER_ZEROS = re.compile(
    r"^#codec_id 0: (h264|hevc|av1|vp8|vp9|mpeg1video|mpeg2video|mpeg4|mjpeg|prores)$", re.MULTILINE
)
"""Codecs whose packets have headers, so that one of zeros is damaged."""

MAX_FILLED = 0.1
"""Largest share of frames that `fill_gaps` inserts."""


@dataclasses.dataclass(frozen=True, eq=False)
class PacketList:
    """Packets of one video stream that decode to frames, in order of presentation.

    Attributes:
        ticks: int64 [N], presentation times in units of `time_base`; equal to the times of the
            decoded frames if `is_timed`.
        end: tick at which the last frame ends.
        time_base: seconds per tick.
        is_timed: False if some packets have no presentation time; `ticks` are then decoding times,
            and frames can only be counted.
        damaged: number of packets that are marked as damaged, filled with zeros, or missing.
        zeros_from: tick from which on all packets are filled with zeros; None if the last is not.
        ends_damaged: the last packet of the file is incomplete.
        stream: index of the stream in the file; None for its first video stream.
    """

    ticks: NDArray[np.int64]
    end: int
    time_base: Fraction
    is_timed: bool = True
    damaged: int = 0
    zeros_from: int | None = None
    ends_damaged: bool = False
    stream: int | None = None

    def before_zeros(self) -> PacketList:
        """Returns the packets before `zeros_from`."""
        if self.zeros_from is None:
            return self
        ticks = self.ticks[self.ticks < self.zeros_from]
        return dataclasses.replace(
            self, ticks=ticks, end=self.zeros_from, damaged=0, zeros_from=None
        )


def list_packets(
    path: Path, *, stream: int | None, threads: int, timeout: float
) -> tuple[PacketList, str]:
    """Lists the packets of a file's stream; returns them with ffmpeg's messages.

    Args:
        stream: index of the stream in the file; None for the first video stream.

    Raises:
        VideoError: ffmpeg cannot open the file, or it has no such stream.
    """
    source = ffmpeg.input_arguments(path, threads=threads, stream=stream, loglevel="info")
    output = ("-c", "copy", "-f", "framecrc", "-")
    for clock in ("PTS", "DTS"):
        arguments = [*source, "-bsf:v", RISING.format(clock), *output]
        listing, stderr = ffmpeg.run(arguments, path, timeout=timeout)
        packets = parse_packets(listing.decode("ascii", "replace"))
        if packets.is_timed:
            break
    packets = dataclasses.replace(packets, is_timed=clock == "PTS")
    messages = stderr.decode("utf-8", "replace")
    if packets.damaged or "[error]" in messages:
        packets = fill_gaps(packets)
    return dataclasses.replace(packets, stream=stream), messages


def parse_packets(listing: str) -> PacketList:
    """Parses a framecrc listing.

    A line is `stream, number, time, duration, size, checksum[, F=flags]`; see `RISING`. Packets
    hidden by an edit list, empty ones (Theora's repeated frames) and VP8's invisible ones, which
    share the time of the next frame, decode to no frame.
    """
    time_base = re.search(r"^#tb 0: (\d+/\d+)", listing, re.MULTILINE)
    rows = np.array(
        [
            (*map(int, row[1:5]), row[5] == " 0x00000000", _flags(row))
            for row in (line.split(",") for line in listing.splitlines() if line[:1] == "0")
        ],
        np.int64,
    ).reshape(-1, 6)
    rows = rows[rows[:, 5] & DISCARD == 0]
    _, starts, durations, sizes, is_zero, flags = rows.T
    shown = sizes > 0
    is_zero = is_zero[shown].astype(bool) & bool(NEVER_ZEROS.search(listing))
    ticks = starts[shown]
    zeros_from = None
    if is_zero.any() and is_zero[-1]:
        tail = len(is_zero) - int(np.argmin(is_zero[::-1])) if not is_zero.all() else 0
        zeros_from = int(ticks[tail:].min())
    damaged = is_zero | (flags[shown] & CORRUPT > 0)
    ordered = np.sort(ticks)
    if re.search(r"^#codec_id 0: vp8$", listing, re.MULTILINE):
        ordered = np.unique(ordered)
    return PacketList(
        ticks=ordered,
        end=_end(starts, durations),
        time_base=Fraction(1) if time_base is None else Fraction(time_base[1]),
        is_timed=bool((starts > UNTIMED).all()),
        damaged=int(damaged.sum()),
        zeros_from=zeros_from,
        ends_damaged=bool(len(flags) and flags[-1] & CORRUPT),
    )


def fill_gaps(packets: PacketList) -> PacketList:
    """Inserts the frames that a damaged stream with evenly spaced frames has lost.

    Without them, every frame after the damage would have a wrong number.
    """
    steps = np.diff(packets.ticks)
    if len(steps) < 2 or not packets.is_timed:
        return packets
    step = int(np.median(steps))
    if step < 1 or (steps % step).any():
        return packets
    ticks = np.arange(packets.ticks[0], packets.ticks[-1] + 1, step)
    missing = len(ticks) - len(np.unique(packets.ticks))
    if not 0 < missing <= MAX_FILLED * len(ticks) or (steps == 0).any():
        return packets
    return dataclasses.replace(packets, ticks=ticks, damaged=packets.damaged + missing)


def _flags(row: list[str]) -> int:
    match = re.search(r"F=0x([0-9a-fA-F]+)", ",".join(row[6:]))
    return 0 if match is None else int(match[1], 16)


def _end(starts: NDArray[np.int64], durations: NDArray[np.int64]) -> int:
    """Returns the tick at which the last frame ends.

    The duration of a packet is the distance to the next in the file. Where frames are stored in
    another order, only that of the file's last packet is a duration of one frame.
    """
    if not len(starts):
        return 0
    last = int(np.argmax(starts)) if (np.diff(starts) >= 0).all() else -1
    return int(starts.max() + max(1, durations[last]))
