"""Fixed sine position tables of the UMT encoder, resampled to the size of the clip.

The encoder was pre-trained on 4 frames of 14 x 14 patches; other sizes interpolate that table
(bicubic in space, linear in time), as the original does (docs/reference_behaviour.md#encoder).
Tables are computed in float64 on the host and become constants of the compiled program.
"""

from __future__ import annotations

import functools

import numpy as np

PRETRAINED_FRAMES = 4
PRETRAINED_GRID = 14


def sine_table(positions: int, width: int) -> np.ndarray:
    """Computes a table [positions, width] float64: sine on even channels, cosine on odd ones."""
    channel = np.arange(width)
    angles = np.arange(positions)[:, None] / np.power(10000.0, 2 * (channel // 2) / width)[None, :]
    return np.where(channel % 2 == 0, np.sin(angles), np.cos(angles))


def _source_places(out_size: int, in_size: int) -> np.ndarray:
    """Maps output samples to places between the input samples (half-pixel centres)."""
    return (np.arange(out_size) + 0.5) * (in_size / out_size) - 0.5


def bicubic_matrix(out_size: int, in_size: int, a: float = -0.75) -> np.ndarray:
    """Computes weights [out_size, in_size] of cubic convolution, edges clamped, not antialiased.

    a=-0.75 is the kernel of PyTorch, in which the original runs.
    """

    def kernel(x: np.ndarray) -> np.ndarray:
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    place = _source_places(out_size, in_size)
    base = np.floor(place).astype(int)
    matrix = np.zeros((out_size, in_size))
    for offset in (-1, 0, 1, 2):
        weight = kernel(place - (base + offset))
        np.add.at(matrix, (np.arange(out_size), np.clip(base + offset, 0, in_size - 1)), weight)
    return matrix


def linear_matrix(out_size: int, in_size: int) -> np.ndarray:
    """Computes weights [out_size, in_size] of linear interpolation with clamped edges."""
    place = np.clip(_source_places(out_size, in_size), 0, in_size - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, in_size - 1)
    fraction = place - low
    matrix = np.zeros((out_size, in_size))
    np.add.at(matrix, (np.arange(out_size), low), 1 - fraction)
    np.add.at(matrix, (np.arange(out_size), high), fraction)
    return matrix


@functools.lru_cache(maxsize=16)
def video_position_table(frames: int, grid: int, width: int) -> np.ndarray:
    """Computes [frames * grid * grid, width] float32, in the order of frames, rows, columns."""
    table = sine_table(PRETRAINED_FRAMES * PRETRAINED_GRID**2, width)
    table = table.reshape(PRETRAINED_FRAMES, PRETRAINED_GRID, PRETRAINED_GRID, width)
    # Rounded to float32 between the steps because the original's table is stored so.
    table = table.astype(np.float32).astype(np.float64)
    if grid != PRETRAINED_GRID:
        space = bicubic_matrix(grid, PRETRAINED_GRID)
        table = np.einsum("hr,wc,trcd->thwd", space, space, table, optimize=True)
    if frames != PRETRAINED_FRAMES:
        table = np.einsum("ft,thwd->fhwd", linear_matrix(frames, PRETRAINED_FRAMES), table)
    return table.reshape(frames * grid * grid, width).astype(np.float32)


@functools.lru_cache(maxsize=16)
def image_position_table(grid: int, width: int) -> np.ndarray:
    """Computes [grid * grid, width] float32 for single images: a table of its own, without time."""
    table = sine_table(PRETRAINED_GRID**2, width).astype(np.float32).astype(np.float64)
    table = table.reshape(PRETRAINED_GRID, PRETRAINED_GRID, width)
    if grid != PRETRAINED_GRID:
        space = bicubic_matrix(grid, PRETRAINED_GRID)
        table = np.einsum("hr,wc,rcd->hwd", space, space, table, optimize=True)
    return table.reshape(grid * grid, width).astype(np.float32)
