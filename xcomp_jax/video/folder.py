"""Reads a folder of extracted frames as a video: one image file per frame, in numeric order."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.files import read_text
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.images import read_rgb

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def frame_files(folder: Path) -> list[Path]:
    """Returns the image files of `folder`, sorted by the number before the extension.

    If any file name has no such number, all are sorted in natural order.
    """
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    if not files:
        raise VideoError(
            folder,
            f"the folder has no images ({', '.join(IMAGE_SUFFIXES)})",
            "Use a video file, or a folder with one image per frame.",
        )
    numbers = {file: int(re.findall(r"\d+$", file.stem)[0]) for file in files if _has_number(file)}
    if len(numbers) < len(files):
        return sorted(files, key=_natural_key)
    return sorted(files, key=lambda file: (numbers[file], _natural_key(file)))


def _has_number(file: Path) -> bool:
    return file.stem[-1].isdecimal()


def _natural_key(file: Path) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", file.name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def sidecar_duration(folder: Path) -> float | None:
    """Reads the seconds in `<folder>.json` ({"duration": 37.5}); None if there is no such file."""
    sidecar = folder.with_name(folder.name + ".json")
    if not sidecar.is_file():
        return None
    advice = 'Write {"duration": SECONDS} with a positive number, or remove the file.'
    try:
        # Integers of any length become floats; one that overflows becomes inf and is refused below.
        content = json.loads(read_text(sidecar), parse_int=float)
    except (OSError, ValueError, RecursionError) as error:
        raise VideoError(sidecar, f"not valid JSON ({error})", advice) from error
    duration = content.get("duration") if isinstance(content, dict) else None
    if not isinstance(duration, float) or not 0 < duration < math.inf:
        raise VideoError(sidecar, f'"duration" is {duration!r}', advice)
    return duration


def read_image(file: Path) -> NDArray[np.uint8]:
    """Reads an image as uint8 [H, W, 3] with its EXIF rotation applied; see `read_rgb`."""
    return read_rgb(file, rotate=True, advice="Extract this frame again.")
