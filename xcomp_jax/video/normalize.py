"""Normalises uint8 frames by the ImageNet mean and standard deviation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

Array = np.ndarray | jax.Array


def normalize(frames: UInt8[Array, "*B H W C"]) -> Float32[Array, "*B H W C"]:
    """Converts uint8 [..., H, W, 3] to normalised float32 of the same shape.

    NumPy input gives NumPy output. JAX input is traced, so a batch can be transferred as uint8 and
    normalised on the device. See docs/reference_behaviour.md#preprocessing.
    """
    if frames.shape[-1:] != (3,):
        raise ValueError(f"frames have shape {tuple(frames.shape)}; expected [..., H, W, 3]")
    xp: Any = jnp if isinstance(frames, jax.Array) else np
    shape = (1,) * (frames.ndim - 1) + (3,)
    mean, std = (
        xp.asarray(values, dtype=np.float32).reshape(shape) for values in (IMAGE_MEAN, IMAGE_STD)
    )
    # Dividing a byte by 255 in float32 gives the same bits as the original's float64 product.
    return (frames.astype(np.float32) / np.float32(255) - mean) / std
