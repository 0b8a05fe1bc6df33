"""Resizes frames to the model's square input, without cropping or padding.

The filter is Pillow's bicubic on uint8, with its antialiasing and its rounding back to uint8. Other
implementations differ by one grey level, which is 0.0175 after normalisation.
See docs/reference_behaviour.md#preprocessing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Converts a frame to uint8 [H, W, 3].

    Accepts [H, W], [H, W, 1], [H, W, 3] and [H, W, 4]; repeats a grey channel, drops alpha.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"frame has dtype {image.dtype}; expected uint8")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"frame has shape {image.shape}; expected [H, W] or [H, W, C] with C of 1, 3 or 4"
        )
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]


def resize_bicubic(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes a frame of any shape that `to_rgb` accepts to uint8 [size, size, 3]."""
    image = Image.fromarray(np.ascontiguousarray(to_rgb(frame)))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
