"""Frames to the model's size: the whole frame squashed to a square.

Resizing is Pillow's bicubic filter on uint8, with its antialiasing and its rounding back to uint8:
other resizers differ by a grey level, which is 0.0175 after normalisation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] from [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]: alpha goes, grey repeats."""
    if image.dtype != np.uint8:
        raise ValueError(f"frames are uint8, this one is {image.dtype}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"a frame is [H, W] or [H, W, 1, 3 or 4], this one is {image.shape}")
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]


def resize_bicubic(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 [size, size, 3] from a frame of any shape `to_rgb` takes; no crop, no padding."""
    image = Image.fromarray(np.ascontiguousarray(to_rgb(frame)))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
