"""Pixel values: bytes in, normalised floats out. The numbers themselves: tests/parity."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xcomp_jax.video.normalize import IMAGE_MEAN, IMAGE_STD, normalize
from xcomp_jax.video.preprocess import resize_bicubic, to_rgb


def test_every_byte_in_double_precision() -> None:
    """The original multiplies in float64, rounds, then normalises in float32: bit for bit."""
    levels = np.arange(256, dtype=np.uint8)
    frames = np.stack([levels, levels, levels], axis=-1)
    scaled = (frames.astype(np.float64) * (1 / 255)).astype(np.float32)
    mean, std = np.asarray(IMAGE_MEAN, np.float32), np.asarray(IMAGE_STD, np.float32)
    expected = (scaled - mean) / std
    np.testing.assert_array_equal(normalize(frames), expected)
    assert normalize(frames).dtype == np.float32


def test_jax_and_numpy_agree() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5, 3), np.uint8)
    want = normalize(frames)
    assert isinstance(want, np.ndarray)
    for got in (normalize(jnp.asarray(frames)), jax.jit(normalize)(frames)):
        assert isinstance(got, jax.Array)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_channels_come_last() -> None:
    with pytest.raises(ValueError, match=r"\(3, 8, 8\)"):
        normalize(np.zeros((3, 8, 8), np.uint8))


def test_grey_repeats_and_alpha_goes() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for shape in ((3, 4), (3, 4, 1)):
        assert (to_rgb(grey.reshape(shape)) == grey[..., None]).all()
    rgba = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    np.testing.assert_array_equal(to_rgb(rgba), rgba[..., :3])


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4, 2), np.uint8), np.zeros((4,), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_no_frame_is_refused(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="frame"):
        resize_bicubic(frame, 8)


def test_resize_squashes_the_whole_frame() -> None:
    frame = np.zeros((10, 40, 3), np.uint8)
    frame[:, 20:] = 200
    small = resize_bicubic(frame, 16)
    assert small.shape == (16, 16, 3)
    assert (small[:, :6] == 0).all()
    assert (small[:, 10:] == 200).all()
