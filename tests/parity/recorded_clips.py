"""Reads the pixels of the cases that record a video encoder."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from tests.parity.cases import Case


def clips_of(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """Yields run names and pixels [C, T, X, X, 3], stored as scaled integers, channels first."""
    for name, stored in case.io.matching(r".+__pixel_values_int\d+_times_\d+").items():
        run, scale = re.fullmatch(r"(.+)__pixel_values_int\d+_times_(\d+)", name).groups()
        pixels = stored.astype(np.float32) / int(scale)
        if pixels.ndim == 4:
            pixels = pixels[:, None]  # single images are clips of one frame
        yield run, np.moveaxis(pixels, 2, -1)


def shifted_order(pixels: np.ndarray) -> np.ndarray:
    """Control: frames (or, for images, columns) in another order."""
    axis = 1 if pixels.shape[1] > 1 else 3
    return np.roll(pixels, 1, axis=axis)
