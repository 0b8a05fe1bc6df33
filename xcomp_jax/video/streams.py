"""Reads from ffmpeg's messages which container and video streams a file has; chooses one. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

_INPUT = re.compile(r"^(?:\[info\] )?Input #0, (.+), from ", re.MULTILINE)
_STREAM = re.compile(r"^(?:\[info\] )? *Stream #0:(\d+)[^ ]*: Video: (.*)$", re.MULTILINE)
_ROTATION = re.compile(r"display ?matrix: rotation of (-?[0-9.]+) degrees", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class VideoStream:
    """One video stream of a file, as ffmpeg describes it.

    Attributes:
        index: position among all streams of the file.
        size: width x height, such as "1920x1080"; empty if unknown.
        bit_rate: in kbit/s; 0 if the container does not state it.
        is_substitute: meant for viewers with impaired sight or hearing.
    """

    index: int
    size: str = ""
    bit_rate: int = 0
    is_substitute: bool = False


def container_of(messages: str) -> str:
    """Returns ffmpeg's name of the container, such as "mpegts"; empty if it found none."""
    match = _INPUT.search(messages)
    return "" if match is None else match[1]


def video_streams(messages: str) -> list[VideoStream]:
    """Returns the video streams that `messages` list, without cover pictures."""
    streams = []
    inputs = re.split(r"^(?:\[info\] )?Output #0", messages, maxsplit=1, flags=re.MULTILINE)[0]
    for index, description in _STREAM.findall(inputs):
        flags = re.findall(r"\(([a-z ]+)\)", description)
        if "attached pic" in flags:
            continue
        size = re.search(r", (\d+x\d+)\b", description)
        rate = re.search(r"\b(\d+) kb/s", description)
        streams.append(
            VideoStream(
                index=int(index),
                size="" if size is None else size[1],
                bit_rate=0 if rate is None else int(rate[1]),
                is_substitute=bool({"hearing impaired", "visual impaired"} & set(flags)),
            )
        )
    return streams


def has_quarter_turn(messages: str) -> bool:
    """Returns True if a stream is displayed turned to the left or right."""
    return any(round(float(angle)) % 180 == 90 for angle in _ROTATION.findall(messages))


def best_stream(streams: Sequence[VideoStream], counts: Sequence[int]) -> int:
    """Returns the position of the stream that the original's reader decodes.

    Follows `av_find_best_stream` of the FFmpeg inside decord 0.6: streams for impaired viewers come
    last, then those of few frames, then those of lower bit rate; the first of equal streams is
    chosen. The marker of the default stream has no effect.

    Args:
        counts: number of packets of each stream.
    """

    def rank(position: int) -> tuple[bool, int, int]:
        stream = streams[position]
        return not stream.is_substitute, min(counts[position], 5), stream.bit_rate

    return max(range(len(streams)), key=rank)  # max() keeps the first of equal ones.
