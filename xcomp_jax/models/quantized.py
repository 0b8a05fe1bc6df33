"""Stores the matrices of the language model, and the cache of a video, as int8 with scales.

A matrix has one scale per output channel: column `o` of `kernel` [..., in, out] is
`kernel[..., o] * kernel_scale[..., o]`, and row `v` of an embedding table [vocab, D] is
`embedding[v] * embedding_scale[v]`. A cache has one scale per token and head. Arithmetic stays in
the compute dtype: the arrays are scaled where they are read, so only the bytes read become fewer.

qwix quantises the same way, but replaces each weight where a Flax module declares it. Here layers
are stacked, scanned and cut into heads, which its weights do not support.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int8

from xcomp_jax.models.decoder_state import LayerGroupCache

Quantization = Literal["int8"]

LARGEST = 127
"""Symmetric range: -128 is not used."""

QUANTIZED = r"llm/(layers/.*/kernel|lm_head/kernel|embed_tokens/embedding)"
"""Paths of quantised parameters. The encoder, which computes far more than it reads, is left as is,
so stored visual tokens stay valid."""


def scale_name(name: str) -> str:
    """Returns the name of the scales of parameter `name`."""
    return f"{name}_scale"


def has_scales(params: Mapping[str, Any]) -> bool:
    """Returns True if any parameter of the tree is quantised."""
    flat = traverse_util.flatten_dict(params)
    return any(path[-1].endswith(scale_name("")) for path in flat)


def is_quantized(params: Mapping[str, Any]) -> bool:
    """Returns True if the language model's matrices are int8."""
    return has_scales(params["llm"])


def quantize(values: Float[Any, ...], axis: int) -> tuple[Any, Any]:
    """Rounds to int8 with one bfloat16 scale per slice along `axis`.

    The scale is rounded to bfloat16 first, so that dequantising multiplies by the exact scale in
    every dtype. Its error of at most 2^-8 leaves 127 x (1 + 2^-8) below 127.5, which rounds to 127.

    Args:
        values: NumPy gives NumPy, JAX gives JAX.

    Returns:
        int8 values, and scales without `axis`.
    """
    xp: Any = np if isinstance(values, np.ndarray) else jnp
    values = values.astype(np.float32)
    largest = xp.max(xp.abs(values), axis=axis, keepdims=True)
    scale = (largest / np.float32(LARGEST)).astype(jnp.bfloat16)
    step = scale.astype(np.float32)
    rounded = xp.round(values / xp.where(step > 0, step, np.float32(1))).astype(np.int8)
    return rounded, xp.squeeze(scale, axis)


def dequantize(
    values: Int8[Array, ...], scale: Array, axis: int, dtype: DTypeLike
) -> Float[Array, ...]:
    """Returns `values * scale` in `dtype`; `scale` lacks `axis`."""
    return values.astype(dtype) * jnp.expand_dims(scale, axis).astype(dtype)


def quantized_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters with int8 matrices and their scales."""
    flat: dict[str, Any] = {}
    for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        if re.fullmatch(QUANTIZED, path):
            flat[path], flat[scale_name(path)] = quantize(leaf, _axis(path))
        else:
            flat[path] = leaf
    return traverse_util.unflatten_dict(flat, sep="/")


def quantized_shapes(path: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a parameter and, if it is quantised, of its scales, by path."""
    if not re.fullmatch(QUANTIZED, path):
        return {path: shape}
    axis = _axis(path) % len(shape)
    return {path: shape, scale_name(path): (*shape[:axis], *shape[axis + 1 :])}


def read_quantized(
    path: str, shape: tuple[int, ...], part: Callable[[tuple[slice, ...]], np.ndarray]
) -> dict[str, np.ndarray]:
    """Reads one parameter and quantises it, one layer at a time.

    Args:
        part: reads the values at an index.

    Returns:
        int8 values and scales by path, in host memory.
    """
    axis = _axis(path)
    values = np.empty(shape, np.int8)
    scales = np.empty(quantized_shapes(path, shape)[scale_name(path)], jnp.bfloat16)
    rest = (slice(None),) * (len(shape) - 1)
    # Layers are stacked along the first axis of three.
    pieces = [slice(i, i + 1) for i in range(shape[0])] if len(shape) == 3 else [slice(None)]
    for rows in pieces:
        values[rows], scales[rows] = quantize(part((rows, *rest)), axis)
    return {path: values, scale_name(path): scales}


def quantized_cache(cache: tuple[LayerGroupCache, ...]) -> tuple[LayerGroupCache, ...]:
    """Stores keys and values as int8, with one scale per layer, token and head."""

    def quantized(group: LayerGroupCache) -> LayerGroupCache:
        key, key_scale = quantize(group.key, axis=-1)
        value, value_scale = quantize(group.value, axis=-1)
        return dataclasses.replace(
            group, key=key, value=value, key_scale=key_scale, value_scale=value_scale
        )

    return tuple(map(quantized, cache))


def cached(stored: tuple[Array, Array | None], dtype: DTypeLike) -> Array:
    """Returns keys or values of a cache, dequantised if they have scales."""
    values, scale = stored
    return values if scale is None else dequantize(values, scale, -1, dtype)


def _axis(path: str) -> int:
    """Returns the axis that shares a scale: inputs of a matrix, features of an embedding."""
    return -1 if path.endswith("embedding") else -2
