"""Tests resizing and normalisation; tests/parity compares the values with the original's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xcomp_jax.video.normalize import IMAGE_MEAN, IMAGE_STD, normalize
from xcomp_jax.video.preprocess import resize_bicubic, to_rgb


def test_normalize_every_byte_equals_float64_product() -> None:
    """The original multiplies in float64, rounds, then normalises in float32; same bits here."""
    levels = np.arange(256, dtype=np.uint8)
    frames = np.stack([levels, levels, levels], axis=-1)
    scaled = (frames.astype(np.float64) * (1 / 255)).astype(np.float32)
    mean, std = np.asarray(IMAGE_MEAN, np.float32), np.asarray(IMAGE_STD, np.float32)
    expected = (scaled - mean) / std
    np.testing.assert_array_equal(normalize(frames), expected)
    assert normalize(frames).dtype == np.float32


def test_normalize_jax_equals_numpy() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5, 3), np.uint8)
    expected = normalize(frames)
    assert isinstance(expected, np.ndarray)
    for actual in (normalize(jnp.asarray(frames)), jax.jit(normalize)(frames)):
        assert isinstance(actual, jax.Array)
        assert actual.dtype == jnp.float32
        np.testing.assert_allclose(actual, expected, atol=2e-6)


def test_normalize_channels_first_raises() -> None:
    with pytest.raises(ValueError, match=r"\(3, 8, 8\)"):
        normalize(np.zeros((3, 8, 8), np.uint8))


def test_to_rgb_repeats_grey_and_drops_alpha() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for shape in ((3, 4), (3, 4, 1)):
        assert (to_rgb(grey.reshape(shape)) == grey[..., None]).all()
    rgba = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    np.testing.assert_array_equal(to_rgb(rgba), rgba[..., :3])


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4, 2), np.uint8), np.zeros((4,), np.uint8), np.zeros((4, 4, 3))]
)
def test_resize_bicubic_invalid_frame_raises(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="frame"):
        resize_bicubic(frame, 8)


def test_resize_bicubic_wide_frame_is_not_cropped() -> None:
    frame = np.zeros((10, 40, 3), np.uint8)
    frame[:, 20:] = 200
    small = resize_bicubic(frame, 16)
    assert small.shape == (16, 16, 3)
    assert (small[:, :6] == 0).all()
    assert (small[:, 10:] == 200).all()
