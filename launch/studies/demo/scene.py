"""Renders scenes of a moving circle in which a ring, a bar and a flash appear for a moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.data.synthetic.render import RGB
from xcomp_jax.data.synthetic.video_spec import COLORS

APPEARANCES = ("ring", "bar", "flash")
FADE_SECONDS = 0.12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appearance:
    """A ring at the border, a bar across the middle or a flash of the whole picture.

    start, stop: seconds of the scene.
    """

    kind: str
    color: str
    start: float
    stop: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A circle of one color on a dim background, and what appears meanwhile.

    seed: determines the background and the path of the circle.
    """

    seed: int
    seconds: float
    circle: str
    appearances: tuple[Appearance, ...] = ()

    def times(self, fps: int) -> list[float]:
        """Returns the times of all frames."""
        return [frame / fps for frame in range(round(self.seconds * fps))]

    def color(self, subject: str) -> str:
        """Returns the color of `circle`, `ring`, `bar` or `flash`; "none" if it never appears."""
        if subject == "circle":
            return self.circle
        return next((a.color for a in self.appearances if a.kind == subject), "none")


def render_frames(
    scene: Scene, times: Sequence[float], *, width: int, height: int
) -> NDArray[np.uint8]:
    """Renders the scene at `times` in seconds, uint8 [F, height, width, 3], deterministically."""
    rng = np.random.default_rng([scene.seed, 7])
    x = (np.arange(width) + 0.5)[None, :] / height  # in heights, so that the circle is round
    y = (np.arange(height) + 0.5)[:, None] / height
    background = _background(rng, x, y)
    radius = rng.uniform(0.16, 0.22)
    path = rng.uniform(size=2), rng.uniform(0.06, 0.16, 2)  # phases, cycles per second
    frames = np.empty((len(times), height, width, 3), np.uint8)
    for number, time in enumerate(times):
        picture = background
        for appearance in scene.appearances:
            area = _area(appearance.kind, x, y, width / height) * _opacity(appearance, time)
            picture = _blend(picture, area, appearance.color)
        cx, cy = 0.5 + (0.46 - radius) * np.sin(2 * np.pi * (path[0] + path[1] * time))
        distance = np.hypot(x - cx * width / height, y - cy)
        disc = np.clip(0.5 + (radius - distance) * height, 0, 1)
        frames[number] = np.rint(_blend(picture, disc, scene.circle))
    return frames


def random_scene(rng: np.random.Generator, seed: int) -> Scene:
    """Draws a scene of two seconds; each appearance is in it with a probability of 0.7."""
    kinds = [str(kind) for kind in rng.permutation(APPEARANCES) if rng.uniform() < 0.7]
    slots = np.sort(rng.permutation(3)[: len(kinds)])
    appearances = []
    for kind, slot in zip(kinds, slots, strict=True):
        length = rng.uniform(0.35, 0.6)
        start = slot * 0.66 + rng.uniform(0, 0.66 - length)
        color = str(rng.choice(COLORS))
        appearances.append(Appearance(kind=kind, color=color, start=start, stop=start + length))
    return Scene(
        seed=seed, seconds=2.0, circle=str(rng.choice(COLORS)), appearances=tuple(appearances)
    )


def _background(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draws a dim gradient with soft waves, float [H, W, 3] in about [20, 90]."""
    waves = sum(
        np.cos(2 * np.pi * (fx * x + fy * y + rng.uniform()))
        for fx, fy in rng.uniform(-2, 2, (4, 2))
    )
    level = rng.uniform(35, 60) + 4 * waves + 18 * (y - 0.5)
    return level[..., None] * rng.uniform(0.88, 1.12, 3)


def _area(
    kind: str, x: NDArray[np.float64], y: NDArray[np.float64], aspect: float
) -> NDArray[np.float64]:
    """Returns the part of the picture that an appearance covers, float [H, W] of 0 and 1."""
    if kind == "ring":
        edge = np.minimum(np.minimum(x, aspect - x) / aspect, np.minimum(y, 1 - y))
        return (edge < 0.13).astype(float)
    if kind == "bar":
        return np.broadcast_to(abs(y - 0.5) < 0.14, (y.shape[0], x.shape[1])).astype(float)
    return np.ones((y.shape[0], x.shape[1]))


def _opacity(appearance: Appearance, time: float) -> float:
    """Fades in and out within the appearance."""
    inside = min(time - appearance.start, appearance.stop - time)
    return float(np.clip(inside / FADE_SECONDS + 0.25, 0, 1)) if inside >= 0 else 0.0


def _blend(
    picture: NDArray[np.float64], opacity: NDArray[np.float64], color: str
) -> NDArray[np.float64]:
    return picture + (np.array(RGB[color]) - picture) * opacity[..., None]
