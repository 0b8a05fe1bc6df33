"""Tests read_rgb: the right 8-bit values of every kind of image that Pillow opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xcomp_jax.data.mixture.media import read_image
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.folder import read_image as read_frame_image

RED = (200, 30, 60)


def test_read_rgb_sixteen_bit_grey_is_divided_by_257(tmp_path: Path) -> None:
    eight = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = tmp_path / "grey.png"
    Image.fromarray(eight * 257).save(path)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
        clipped = np.asarray(image.convert("L"))
    for read in (read_image, read_frame_image):
        np.testing.assert_array_equal(read(path), np.repeat(eight[..., None], 3, axis=-1))
    assert not np.array_equal(clipped, eight)  # Control: Pillow's own conversion.
    nearly = np.minimum(eight.astype(int) * 257 + 128, 65535)
    Image.fromarray(nearly.astype(np.uint16)).save(path)
    np.testing.assert_array_equal(read_image(path)[..., 0], eight)  # rounds to the nearest


def test_read_rgb_other_modes_give_their_colour(tmp_path: Path) -> None:
    rgb = Image.new("RGB", (6, 4), RED)
    palette = rgb.quantize(4)
    palette.info["transparency"] = 0
    grey = round(0.299 * 200 + 0.587 * 30 + 0.114 * 60)
    cases = {
        "palette.png": (palette, RED),
        "alpha.png": (Image.new("RGBA", (6, 4), (*RED, 7)), RED),
        "grey_alpha.png": (Image.new("LA", (6, 4), (grey, 9)), (grey,) * 3),
        "bits.png": (Image.new("1", (6, 4), 1), (255,) * 3),
        "cmyk.jpg": (Image.new("CMYK", (8, 8), (55, 225, 195, 0)), RED),
    }
    for name, (image, colour) in cases.items():
        image.save(tmp_path / name, **({"quality": 100} if name.endswith("jpg") else {}))
        values = read_image(tmp_path / name).astype(int)
        assert np.abs(values - colour).max() <= 2, name


def test_read_rgb_float_image_is_refused(tmp_path: Path) -> None:
    for array in (np.ones((4, 4), np.float32), np.full((4, 4), 70000, np.int32)):
        path = tmp_path / "deep.tiff"
        Image.fromarray(array).save(path)
        with pytest.raises(VideoError, match="without a fixed range"):
            read_image(path)
