"""Tells from a packet's bytes whether decoding can start there, and whether others refer to it.

Key frame flags of a container do not suffice: H.264 recovery points and frames of gradual refresh
are flagged too, and frames after them may refer to frames before. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

H264_SLICES, H264_IDR, H264_HEADERS = (1, 2, 3, 4, 5), 5, (6, 9, 12)
"""NAL unit types: slices; slices of an IDR picture; SEI, delimiter and filler data."""

HEVC_SLICES, HEVC_HEADERS = 32, (35, 38, 39, 40)
"""First NAL unit type that is no slice; delimiter, filler data and SEI."""

HEVC_CLOSED, HEVC_OPEN = (19, 20), (16, 17, 18, 21)
"""NAL unit types of IDR pictures, and of BLA and CRA pictures."""

HEVC_UNREFERENCED = (0, 2, 4, 6, 8)
"""NAL unit types of pictures that no picture of the same temporal layer refers to."""

INTRA_CODECS = ("mjpeg", "prores", "rawvideo", "png", "dvvideo", "huffyuv", "utvideo")

AV1_SEQUENCE_HEADER, AV1_FRAME_HEADER, AV1_FRAME = 1, 3, 6

CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", *INTRA_CODECS)
"""Codecs that `access` knows."""


class Access(enum.Enum):
    """Start of decoding at a packet.

    CLOSED: a decoder at work resets itself here.
    OPEN: only a new decoder starts here; pictures after the packet in the file that are presented
        before it cannot be decoded.
    """

    CLOSED = "closed"
    OPEN = "open"


def access(codec: str, data: bytes) -> Access | None:
    """Returns how decoding can start at a packet; None if it cannot, or that is not certain."""
    if codec in INTRA_CODECS:
        return Access.CLOSED
    if codec == "h264":
        slices = [unit[0] & 31 for unit in nal_units(data) if unit[0] & 31 in H264_SLICES]
        return Access.CLOSED if slices and set(slices) == {H264_IDR} else None
    if codec == "hevc":
        kinds = {kind for kind, _ in _hevc_units(data) if kind < HEVC_SLICES}
        if not kinds or not kinds <= {*HEVC_CLOSED, *HEVC_OPEN}:
            return None
        return Access.CLOSED if kinds <= set(HEVC_CLOSED) else Access.OPEN
    if codec == "av1":
        return Access.CLOSED if _is_av1_key(data) else None
    if codec == "vp8":
        return Access.CLOSED if data[0] & 1 == 0 else None
    if codec == "vp9":
        return Access.CLOSED if _is_vp9_key(data) else None
    if codec == "mpeg4":
        picture = data.find(b"\0\0\1\xb6")
        is_intra = 0 <= picture < len(data) - 4 and data[picture + 4] >> 6 == 0
        return Access.OPEN if is_intra else None
    return None


def temporal_layer(codec: str, data: bytes) -> int:
    """Returns the temporal layer of a packet; 0 where the codec has none."""
    layers = [layer for kind, layer in _hevc_units(data)] if codec == "hevc" else []
    return max(layers, default=0)


def is_unreferenced(codec: str, data: bytes) -> bool:
    """Returns True if no picture of this or a lower temporal layer refers to the packet's."""
    if codec == "h264":
        units = [(unit[0] & 31, unit[0] >> 5 & 3) for unit in nal_units(data)]
        # Parameter sets in the packet concern later pictures too.
        return bool(units) and all(
            (kind == 1 and reference == 0) or kind in H264_HEADERS for kind, reference in units
        )
    if codec == "hevc":
        kinds = [kind for kind, _ in _hevc_units(data)]
        return bool(kinds) and all(
            kind in HEVC_UNREFERENCED or kind in HEVC_HEADERS for kind in kinds
        )
    return False


def nal_units(data: bytes) -> list[bytes]:
    """Returns the first bytes of each NAL unit, behind 4-byte lengths or start codes.

    Returns nothing for other data.
    """
    units, position = [], 0
    while position + 4 < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length < 1 or position + 4 + length > len(data):
            break
        units.append(data[position + 4 : position + 6])
        position += 4 + length
    if units and position == len(data):
        return units
    return [unit for unit in _units_by_start_code(data) if unit]


def _units_by_start_code(data: bytes) -> Iterator[bytes]:
    if not data.startswith((b"\0\0\1", b"\0\0\0\1")):
        return
    position = data.find(b"\0\0\1")
    while position >= 0:
        yield data[position + 3 : position + 5]
        position = data.find(b"\0\0\1", position + 3)


def _hevc_units(data: bytes) -> list[tuple[int, int]]:
    """Returns (type, temporal layer) of each NAL unit."""
    return [(unit[0] >> 1 & 63, (unit[1] & 7) - 1) for unit in nal_units(data) if len(unit) == 2]


def _is_av1_key(data: bytes) -> bool:
    """Returns True if the first frame is a shown key frame behind a sequence header."""
    position, has_sequence = 0, False
    while position < len(data):
        header = data[position]
        kind, extension, has_size = header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
        position += 1 + extension
        length, shift = 0, 0
        if not has_size:
            length = len(data) - position
        while has_size and position < len(data):
            byte = data[position]
            position += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if kind in (AV1_FRAME, AV1_FRAME_HEADER):
            # show_existing_frame 0, frame_type 0 (two bits), show_frame 1
            return has_sequence and position < len(data) and data[position] >> 4 == 1
        has_sequence |= kind == AV1_SEQUENCE_HEADER
        position += length
    return False


def _is_vp9_key(data: bytes) -> bool:
    bits = "".join(f"{byte:08b}" for byte in data[:2])
    # frame_marker 2, profile of two bits (low first), a reserved bit in profile 3
    if len(bits) < 16 or bits[:2] != "10":
        return False
    offset = 5 if bits[2:4] == "11" else 4
    # show_existing_frame 0, frame_type 0 (key), show_frame 1
    return bits[offset : offset + 3] == "001"
