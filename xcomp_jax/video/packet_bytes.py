"""Reads single packets of a file at the positions that ffmpeg lists, without ffmpeg."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import TracebackType

from xcomp_jax.video.access_points import (
    Access,
    access,
    is_unreferenced,
    temporal_layer,
)
from xcomp_jax.video.decode_order import DecodeOrder

MAX_HEADER = 24
"""Bytes that a container writes between the listed position and the packet (Matroska, AVI)."""


class PacketBytes:
    """Reads packets of one file and what they are for a decoder.

    A packet counts as unknown unless its bytes have the listed checksum.
    """

    def __init__(self, path: Path, order: DecodeOrder) -> None:
        self._order = order
        self._file = os.open(path, os.O_RDONLY)
        self._header = 0

    def __enter__(self) -> PacketBytes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def access(self, number: int) -> Access | None:
        """Returns `access_points.access` of packet `number`; None if it is unknown."""
        data = self._read(number)
        return None if data is None else access(self._order.codec, data)

    def unreferenced(self, number: int) -> tuple[bool, int]:
        """Returns whether a packet is unreferenced in its temporal layer, and the layer."""
        data = self._read(number)
        if data is None:
            return False, 0
        codec = self._order.codec
        return is_unreferenced(codec, data), temporal_layer(codec, data)

    def _read(self, number: int) -> bytes | None:
        order = self._order
        start, size = int(order.positions[number]), int(order.sizes[number])
        if start < 0 or size < 1:
            return None
        data = os.pread(self._file, size + MAX_HEADER, start)
        # The length of the last header is likely that of the next one.
        for header in (self._header, *range(MAX_HEADER + 1)):
            packet = data[header : header + size]
            if len(packet) == size and zlib.adler32(packet, 0) == order.checksums[number]:
                self._header = header
                return packet
        return None
