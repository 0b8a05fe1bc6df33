"""Renders a `VideoSpec` to pixels, deterministically, with numpy alone."""

from __future__ import annotations

import numpy as np

from xcomp_jax.data.synthetic.video_spec import VideoSpec

RGB = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 215, 40),
}


def render(spec: VideoSpec) -> np.ndarray:
    """Renders the video as uint8 [F, H, W, 3] (RGB): texture, flash, then the shape on top."""
    rng = np.random.default_rng([spec.seed, 2])
    frames = np.repeat(texture(rng, spec.size)[None], spec.num_frames, axis=0)  # F H W 3
    radius = rng.uniform(0.13, 0.17) * spec.size
    centers = _centers(rng, spec, radius)

    if spec.flash_color is not None:
        area = np.ones((spec.size, spec.size), bool)
        if spec.flash_style == "border":
            edge = spec.size // 8
            area[edge:-edge, edge:-edge] = False
        for frame in spec.flash_frames:
            frames[frame][area] = RGB[spec.flash_color]

    pixel = np.arange(spec.size) + 0.5
    dx = pixel[None, None, :] - centers[:, 0, None, None]  # F 1 W
    dy = pixel[None, :, None] - centers[:, 1, None, None]  # F H 1
    distance = _signed_distance(spec.shape, dx, dy, radius)
    opacity = np.clip(0.5 - distance, 0.0, 1.0)[..., None]  # one pixel of antialiasing
    frames = frames * (1 - opacity) + np.array(RGB[spec.color]) * opacity
    return np.rint(frames).astype(np.uint8)


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws a dim, slightly tinted pattern of waves, float [H, W, 3] in about [20, 90]."""
    y, x = np.mgrid[:size, :size] / size
    waves = np.zeros((size, size))
    for _ in range(4):
        fx, fy = rng.uniform(-4, 4, 2)
        waves += np.cos(2 * np.pi * (fx * x + fy * y + rng.uniform()))
    level = rng.uniform(40, 65) + 5 * waves
    return level[..., None] * rng.uniform(0.9, 1.1, 3)


def _centers(rng: np.random.Generator, spec: VideoSpec, radius: float) -> np.ndarray:
    """Draws centers (x, y) in pixels, float [F, 2], along a line, with the whole shape in view.

    Start and end have the same distribution, so that a single frame does not show the direction.
    """
    low, high = radius + 1, spec.size - radius - 1
    start = low + rng.uniform(0, 0.08) * spec.size
    end = high - rng.uniform(0, 0.08) * spec.size
    if spec.direction in ("left", "up"):
        start, end = end, start
    along = np.linspace(start, end, spec.num_frames)
    across = np.full(spec.num_frames, rng.uniform(low, high))
    axes = (along, across) if spec.direction in ("left", "right") else (across, along)
    return np.stack(axes, axis=-1)


def _signed_distance(shape: str, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Computes distances in pixels to the outline, negative inside, [F, H, W]."""
    if shape == "circle":
        return np.hypot(dx, dy) - radius
    if shape == "square":
        return np.maximum(abs(dx), abs(dy)) - 0.88 * radius
    if shape == "triangle":  # points up; base and height are equal
        slope = (2 * abs(dx) - dy - radius) / np.sqrt(5.0)
        return np.maximum(slope, dy - radius)
    if shape == "cross":
        arm = radius / 3
        upright = np.maximum(abs(dx) - arm, abs(dy) - radius)
        level = np.maximum(abs(dx) - radius, abs(dy) - arm)
        return np.minimum(upright, level)
    raise ValueError(f"shape={shape!r} has no drawing rule")
