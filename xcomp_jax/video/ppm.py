"""Reads PPM images from a pipe: the format in which ffmpeg sends decoded frames."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import IO

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Frames = Generator[Frame, None, None]


def read_ppm(pipe: IO[bytes]) -> Frame | None:
    """Reads the next image as uint8 [H, W, 3].

    Returns None at the end of the stream, also if the last image is incomplete.
    """
    header = [pipe.readline() for _ in range(3)]  # "P6", "width height", "255"
    numbers = re.fullmatch(rb"P6\n(\d+) (\d+)\n255\n", b"".join(header))
    if numbers is None:
        return None
    frame = np.empty((int(numbers[2]), int(numbers[1]), 3), np.uint8)
    view, filled = frame.data.cast("B"), 0
    while filled < len(view):
        count = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return frame
