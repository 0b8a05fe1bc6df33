"""Parity of `preprocess`: frames to pixel values, resized as uint8, then normalized."""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.parity.cases import Case, GoldenError, assert_parity
from xcomp_jax.video.normalize import normalize
from xcomp_jax.video.preprocess import resize_bicubic, to_rgb

pytestmark = pytest.mark.golden("preprocess")

ATOL = 1e-5
"""Less than one grey level, which is 0.0175."""


def recordings(case: Case) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Yields input frames [T, height, width(, 3)] and recorded values [T, X, X, 3] of every run."""
    for name, values in case.io.matching(r".+__pixel_values").items():
        stem = name.removesuffix("pixel_values")
        sources = [case.io[stem + part] for part in ("frames", "image") if stem + part in case.io]
        if len(sources) != 1:
            raise GoldenError(f"{case.io.path}: {name} needs {stem}frames or {stem}image")
        frames = sources[0]
        single = frames.shape[0] != values.shape[0] or frames.ndim == 2
        yield (frames[None] if single else frames), values.transpose(0, 2, 3, 1)


def resize_bilinear(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes by the other common filter, as a control."""
    image = Image.fromarray(np.ascontiguousarray(to_rgb(frame)))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def test_preprocess_recorded_frames_equal_pixels(case: Case) -> None:
    filters_differ, bilinear_misses = False, False
    for frames, expected in recordings(case):
        size = expected.shape[1]
        small = np.stack([resize_bicubic(frame, size) for frame in frames])
        halves = small / np.float32(127.5) - 1  # Control: another model family's normalisation.
        assert_parity(normalize(small), expected, atol=ATOL, control=halves)
        assert_parity(normalize(jnp.asarray(small)), expected, atol=ATOL, control=halves)
        bilinear = np.stack([resize_bilinear(frame, size) for frame in frames])
        filters_differ |= frames.shape[1:3] != (size, size)
        bilinear_misses |= bool(np.abs(normalize(bilinear) - expected).max() > 10 * ATOL)
    assert bilinear_misses == filters_differ, "control: the bilinear filter passes for the bicubic"
