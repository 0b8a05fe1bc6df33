"""Reads single images as RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from xcomp_jax.video.errors import VideoError

DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
"""Pillow's modes of 16-bit grey images; older versions open such a PNG as "I"."""


def read_rgb(file: Path, *, rotate: bool, advice: str) -> NDArray[np.uint8]:
    """Reads an image as uint8 [H, W, 3].

    Drops the alpha channel, repeats a grey channel, and divides 16-bit values by 257, which maps
    65,535 to 255.

    Args:
        rotate: apply the EXIF rotation.
        advice: last sentence of the error.

    Raises:
        VideoError: the file is not a readable image, or its values have no fixed range.
    """
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image) if rotate else image
            if upright.mode in DEEP_GREY and (upright.mode != "I" or image.format == "PNG"):
                grey = (np.asarray(upright).astype(np.uint32) + 128) // 257
                return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
            if upright.mode in ("I", "F"):
                reason = f"its pixels are numbers without a fixed range (mode {upright.mode!r})"
                raise VideoError(file, reason, "Save it with 8 or 16 bits per channel.")
            return np.asarray(upright.convert("RGB"))
    except VideoError:
        raise
    # Pillow's PNG reader raises SyntaxError on a broken header.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(file, f"not a readable image ({error})", advice) from error
