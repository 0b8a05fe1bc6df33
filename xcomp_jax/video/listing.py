"""Lists the packets of a video file with ffmpeg, which reads the whole file but decodes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from xcomp_jax.video import ffmpeg
from xcomp_jax.video.decode_order import (
    DISCARD,
    LISTING_FILTER,
    MAX_POSITION,
    PLAIN_FILTER,
    POSITION_UNIT,
    DecodeOrder,
    parse_listing,
)
from xcomp_jax.video.streams import container_of

UNTIMED = -(10**14)
"""Times below this are none; `LISTING_FILTER` numbers packets from far below it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """Packets of one stream of a file, and ffmpeg's messages about the file.

    Attributes:
        is_timed: False if some packets have no presentation time; ticks are then decoding times.
    """

    order: DecodeOrder
    messages: str
    is_timed: bool


class ListingCache(Protocol):
    """Keeps listings of files between processes."""

    def listing(self, path: Path, stream: int | None, list_anew: Callable[[], Listing]) -> Listing:
        """Returns the listing of a file's stream, by `list_anew` unless it is kept."""


def list_stream(path: Path, *, stream: int | None, threads: int, timeout: float) -> Listing:
    """Lists the packets of a file's stream; arguments as in `packets.list_packets`."""
    source = ffmpeg.input_arguments(path, threads=threads, stream=stream, loglevel="info")
    listing = _listed(source, "PTS", path, timeout)
    visible = listing.order.take(listing.order.flags & DISCARD == 0)
    return listing if (visible.ticks > UNTIMED).all() else _listed(source, "DTS", path, timeout)


def _listed(source: list[str], clock: str, path: Path, timeout: float) -> Listing:
    """Lists by presentation ("PTS") or decoding ("DTS") times."""
    for template in (LISTING_FILTER, PLAIN_FILTER):
        arguments = [*source, "-bsf:v", template.format(clock=clock), "-c", "copy"]
        # Without flushing, ffmpeg writes blocks instead of lines.
        arguments += ["-flush_packets", "0", "-f", "framecrc", "-"]
        output, stderr = ffmpeg.run(arguments, path, timeout=timeout)
        messages = stderr.decode("utf-8", "replace")
        order = parse_listing(output, container=container_of(messages))
        if (order.durations < POSITION_UNIT - 1).all() and (order.positions < MAX_POSITION).all():
            break
    return Listing(order, messages, is_timed=clock == "PTS")
