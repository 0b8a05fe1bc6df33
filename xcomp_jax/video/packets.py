"""Lists the packets of a video stream, which tell the time of every frame without decoding one."""

from __future__ import annotations

import dataclasses
import functools
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video.decode_order import CORRUPT, DISCARD, DecodeOrder
from xcomp_jax.video.listing import UNTIMED, ListingCache, list_stream
from xcomp_jax.video.streams import has_quarter_turn

NO_TIME = -(2**63)
"""Value that ffmpeg reports for a packet without presentation time (AVI with B-frames)."""

NEVER_ZEROS = (
    *("h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "prores"),
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
        decode_order: all packets as a decoder reads them; None if the file is damaged.
        is_turned: frames are rotated by a quarter turn after decoding.
    """

    ticks: NDArray[np.int64]
    end: int
    time_base: Fraction
    is_timed: bool = True
    damaged: int = 0
    zeros_from: int | None = None
    ends_damaged: bool = False
    stream: int | None = None
    decode_order: DecodeOrder | None = None
    is_turned: bool = False

    def before_zeros(self) -> PacketList:
        """Returns the packets before `zeros_from`."""
        if self.zeros_from is None:
            return self
        ticks = self.ticks[self.ticks < self.zeros_from]
        return dataclasses.replace(
            self,
            ticks=ticks,
            end=self.zeros_from,
            damaged=0,
            zeros_from=None,
            decode_order=None,
        )


def list_packets(
    path: Path,
    *,
    stream: int | None,
    threads: int,
    timeout: float,
    listings: ListingCache | None = None,
) -> tuple[PacketList, str]:
    """Lists the packets of a file's stream; returns them with ffmpeg's messages.

    Args:
        stream: index of the stream in the file; None for the first video stream.
        listings: cache of listings.

    Raises:
        VideoError: ffmpeg cannot open the file, or it has no such stream.
    """
    list_anew = functools.partial(
        list_stream, path, stream=stream, threads=threads, timeout=timeout
    )
    listing = list_anew() if listings is None else listings.listing(path, stream, list_anew)
    packets = packet_list(listing.order)
    packets = dataclasses.replace(
        packets,
        is_timed=listing.is_timed,
        stream=stream,
        is_turned=has_quarter_turn(listing.messages),
    )
    if packets.damaged or "[error]" in listing.messages:
        packets = dataclasses.replace(fill_gaps(packets), decode_order=None)
    return packets, listing.messages


def packet_list(order: DecodeOrder) -> PacketList:
    """Sorts the packets that decode to frames by their times.

    Packets hidden by an edit list, empty ones (Theora's repeated frames) and VP8's invisible ones,
    which share the time of the next frame, decode to no frame.
    """
    visible = order.take(order.flags & DISCARD == 0)
    shown = visible.take(visible.sizes > 0)
    is_zero = (shown.checksums == 0) & (order.codec in NEVER_ZEROS)
    zeros_from = None
    if is_zero.any() and is_zero[-1]:
        tail = len(is_zero) - int(np.argmin(is_zero[::-1])) if not is_zero.all() else 0
        zeros_from = int(shown.ticks[tail:].min())
    damaged = is_zero | (shown.flags & CORRUPT > 0)
    return PacketList(
        ticks=np.unique(shown.ticks) if order.codec == "vp8" else np.sort(shown.ticks),
        end=_end(visible.ticks, visible.durations),
        time_base=order.time_base,
        is_timed=bool((visible.ticks > UNTIMED).all()),
        damaged=int(damaged.sum()),
        zeros_from=zeros_from,
        ends_damaged=bool(len(visible) and visible.flags[-1] & CORRUPT),
        decode_order=order,
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


def _end(starts: NDArray[np.int64], durations: NDArray[np.int64]) -> int:
    """Returns the tick at which the last frame ends.

    The duration of a packet is the distance to the next in the file. Where frames are stored in
    another order, only that of the file's last packet is a duration of one frame.
    """
    if not len(starts):
        return 0
    last = int(np.argmax(starts)) if (np.diff(starts) >= 0).all() else -1
    return int(starts.max() + max(1, durations[last]))
