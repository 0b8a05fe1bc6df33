"""Bytes to pixel values, by ImageNet's mean and deviation; needs nothing but arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalize(frames: Any) -> Any:
    """float32 [..., S, S, 3] from uint8 [..., S, S, 3], channels last; numpy in, numpy out.

    For jax arrays the same arithmetic is traced, so a batch can travel as uint8 and be normalised
    on the device.
    """
    if frames.shape[-1:] != (3,):
        raise ValueError(f"frames are [..., S, S, 3], this is {tuple(frames.shape)}")
    xp: Any = jnp if isinstance(frames, jax.Array) else np
    shape = (1,) * (frames.ndim - 1) + (3,)
    mean, std = (
        xp.asarray(values, dtype=np.float32).reshape(shape) for values in (IMAGE_MEAN, IMAGE_STD)
    )
    # float32 division of a byte by 255 rounds to what the original's float64 product rounds to.
    return (frames.astype(np.float32) / np.float32(255) - mean) / std
