"""Specifications of generated videos.

The answer to every question is a field of `VideoSpec`; everything else (texture, size and path of
the shape, exact frames of the flash) follows from `seed`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np

COLORS = ("red", "green", "blue", "yellow")
SHAPES = ("square", "circle", "triangle", "cross")
DIRECTIONS = ("left", "right", "up", "down")
MOMENTS = ("early", "middle", "late", "never")
FLASH_STYLES = ("border", "full")

MAX_VIDEOS_PER_SEED = 2**20

RENDER_VERSION = 1
"""Part of every file name; raise it when `render` or the encoder settings change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoSpec:
    """One moving shape and at most one flash; `size` is the side in pixels.

    Raises:
        ValueError: a value is outside its list, or only one of flash moment and color is set.
    """

    seed: int
    shape: str
    color: str
    direction: str
    flash_moment: str
    flash_color: str | None
    flash_style: str = "border"
    num_frames: int = 16
    fps: int = 8
    size: int = 64

    def __post_init__(self) -> None:
        for name, known in (
            ("shape", SHAPES),
            ("color", COLORS),
            ("direction", DIRECTIONS),
            ("flash_moment", MOMENTS),
            ("flash_style", FLASH_STYLES),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}={value!r} must be one of {known}")
        if (self.flash_moment == "never") != (self.flash_color is None):
            raise ValueError(
                f"flash_color={self.flash_color!r} contradicts "
                f"flash_moment={self.flash_moment!r}: a flash has a color, and 'never' has none"
            )
        if self.flash_color is not None and self.flash_color not in COLORS:
            raise ValueError(f"flash_color={self.flash_color!r} must be one of {COLORS}")
        if self.num_frames < 12:
            raise ValueError(
                f"num_frames={self.num_frames} must be at least 12, so that a third of the video "
                "holds a flash of three frames"
            )
        if self.size < 32 or self.size % 2:
            raise ValueError(f"size={self.size} must be even (h264 4:2:0) and at least 32")

    @property
    def file_name(self) -> str:
        """Name that is unique to the content, across runs."""
        fields = json.dumps([RENDER_VERSION, dataclasses.asdict(self)], sort_keys=True)
        return f"v{self.seed:012d}-{hashlib.sha256(fields.encode()).hexdigest()[:8]}.mp4"

    @property
    def flash_frames(self) -> range:
        """Two or three frames with the flash, all within its third of the video."""
        if self.flash_color is None:
            return range(0)
        third = MOMENTS.index(self.flash_moment)
        first = -(-third * self.num_frames // 3)
        stop = (third + 1) * self.num_frames // 3
        rng = np.random.default_rng([self.seed, 1])
        length = int(rng.integers(2, 4))
        start = int(rng.integers(first, stop - length + 1))
        return range(start, start + length)


def plan_specs(
    seed: int, n: int, *, num_frames: int = 16, fps: int = 8, size: int = 64
) -> tuple[VideoSpec, ...]:
    """Plans `n` videos with balanced, independent answers.

    Every kind of answer is balanced and shuffled separately; flash colors are balanced over the
    videos with a flash. Counts differ by at most one, and not at all if 16 divides `n`. Videos of
    different seeds share no texture and no path.
    """
    if not 1 <= n <= MAX_VIDEOS_PER_SEED:
        raise ValueError(f"n={n} must lie in [1, {MAX_VIDEOS_PER_SEED}]")
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    rng = np.random.default_rng([seed, 0])
    shapes = _balanced(rng, SHAPES, n)
    colors = _balanced(rng, COLORS, n)
    directions = _balanced(rng, DIRECTIONS, n)
    moments = _balanced(rng, MOMENTS, n)
    styles = _balanced(rng, FLASH_STYLES, n)
    num_flashes = sum(moment != "never" for moment in moments)
    flash_colors = iter(_balanced(rng, COLORS, num_flashes))
    return tuple(
        VideoSpec(
            seed=seed * MAX_VIDEOS_PER_SEED + i,
            shape=shapes[i],
            color=colors[i],
            direction=directions[i],
            flash_moment=moments[i],
            flash_color=None if moments[i] == "never" else next(flash_colors),
            flash_style=styles[i],
            num_frames=num_frames,
            fps=fps,
            size=size,
        )
        for i in range(n)
    )


def _balanced(rng: np.random.Generator, values: Sequence[str], n: int) -> list[str]:
    """Draws `n` values in random order; counts differ by at most one."""
    order = rng.permutation(len(values))
    return [values[i] for i in rng.permutation(np.resize(order, n))]
