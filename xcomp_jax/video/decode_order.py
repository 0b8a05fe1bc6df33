"""Parses ffmpeg's listing of a stream's packets, in the order in which a decoder reads them."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

KEY, CORRUPT, DISCARD = 0x1, 0x2, 0x4
"""Packet flags: key frame; known to be damaged; decoded but hidden by an edit list."""

POSITION_UNIT = 1 << 17
"""A listed duration is `position * POSITION_UNIT + duration`: framecrc has no column for
positions."""

MAX_POSITION = 1 << 36
"""ffmpeg computes listed durations in float64, exact up to this position."""

# The muxer replaces presentation times where decoding times do not rise (restarted clocks), so
# these become the packet's number, far below any time.
PLAIN_FILTER = "setts=pts={clock}:dts=N-1000000000000000"
LISTING_FILTER = (
    f"{PLAIN_FILTER}:"
    f"duration='if(gte(POS,0),POS,-1)*{POSITION_UNIT}+min(DURATION,{POSITION_UNIT - 1})'"
)

_ROW = re.compile(
    rb"^0, *-?\d+, *(-?\d+), *(-?\d+), *(\d+), 0x([0-9a-f]{8})(?:.*?F=0x([0-9A-Fa-f]+))?",
    re.MULTILINE,
)


@dataclasses.dataclass(frozen=True, eq=False)
class DecodeOrder:
    """Packets of one video stream in the order of the file.

    Attributes:
        ticks: int64 [M], presentation times.
        durations: int64 [M], in ticks.
        sizes: int64 [M], bytes.
        checksums: uint32 [M], Adler-32 of the bytes.
        flags: int64 [M], `KEY`, `CORRUPT`, `DISCARD`.
        positions: int64 [M], bytes before the packet in the file; -1 if unknown.
        time_base: seconds per tick.
        codec: ffmpeg's name of the codec; empty if unknown.
        size: width and height of the first frame, before rotation; zeros if unknown.
        container: ffmpeg's name of the container, such as "mpegts"; empty if unknown.
    """

    ticks: NDArray[np.int64]
    durations: NDArray[np.int64]
    sizes: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    flags: NDArray[np.int64]
    positions: NDArray[np.int64]
    time_base: Fraction = Fraction(1)
    codec: str = ""
    size: tuple[int, int] = (0, 0)
    container: str = ""

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a decoded RGB frame; 0 if unknown."""
        return 3 * math.prod(self.size)

    @functools.cached_property
    def by_time(self) -> NDArray[np.int64]:
        """Packet numbers, int64 [M], sorted by time; packets of equal time keep their order."""
        return np.argsort(self.ticks, kind="stable")

    @functools.cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Position of each packet in `by_time`, int64 [M]."""
        ranks = np.empty(len(self), np.int64)
        ranks[self.by_time] = np.arange(len(self))
        return ranks

    def numbers(self, ticks: Sequence[int]) -> NDArray[np.int64]:
        """Returns, for each of `ticks`, the number of the last packet with that time."""
        found = np.searchsorted(self.ticks, ticks, "right", sorter=self.by_time)
        return self.by_time[found - 1]

    def take(self, mask: NDArray[np.bool_]) -> DecodeOrder:
        """Returns the packets for which `mask` [M] is true."""
        columns = ("ticks", "durations", "sizes", "checksums", "flags", "positions")
        return dataclasses.replace(self, **{name: getattr(self, name)[mask] for name in columns})


def parse_listing(listing: bytes, *, container: str = "") -> DecodeOrder:
    """Parses the output of ffmpeg's framecrc muxer behind `LISTING_FILTER` or `PLAIN_FILTER`.

    A line is `stream, number, time, duration, size, checksum[, F=flags]`.
    """
    rows = _ROW.findall(listing)
    ticks, listed, sizes, checksums, flags = zip(*rows, strict=True) if rows else ((),) * 5
    durations = _integers(listed)
    positions = np.full(len(durations), -1)
    if (np.abs(durations) >= POSITION_UNIT).any():
        positions, durations = np.divmod(durations, POSITION_UNIT)
    time_base = re.search(rb"^#tb 0: (\d+/\d+)", listing, re.MULTILINE)
    codec = re.search(rb"^#codec_id 0: (\w+)", listing, re.MULTILINE)
    size = re.search(rb"^#dimensions 0: (\d+)x(\d+)", listing, re.MULTILINE)
    return DecodeOrder(
        ticks=_integers(ticks),
        durations=durations,
        sizes=_integers(sizes),
        checksums=np.frombuffer(bytes.fromhex(b"".join(checksums).decode()), ">u4").astype("u4"),
        flags=np.array([int(value, 16) if value else KEY for value in flags], np.int64),
        positions=positions,
        time_base=Fraction(1) if time_base is None else Fraction(time_base[1].decode()),
        codec="" if codec is None else codec[1].decode(),
        size=(0, 0) if size is None else (int(size[1]), int(size[2])),
        container=container,
    )


def _integers(column: tuple[bytes, ...]) -> NDArray[np.int64]:
    return np.array(column, "S").astype(np.int64) if column else np.zeros(0, np.int64)
