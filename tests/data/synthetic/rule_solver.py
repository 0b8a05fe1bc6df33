"""Answers the questions about a generated video from its pixels, with fixed rules.

It reads nothing but decoded frames, so that its accuracy shows whether the video holds the answers.
"""

from __future__ import annotations

import numpy as np

from xcomp_jax.data.synthetic.render import RGB
from xcomp_jax.data.synthetic.video_spec import MOMENTS

VIVID = 90
"""Smallest difference between a pixel's channels that counts as colored; textures are below 40."""

NAMES = tuple(RGB)


def solve(frames: np.ndarray) -> dict[str, str]:
    """Returns answers by kind for uint8 [F, H, W, 3]; an invisible property gets a constant."""
    vivid = frames.max(-1).astype(int) - frames.min(-1) > VIVID  # F H W
    named = _nearest_color(frames)  # F H W
    band = np.ones(frames.shape[1:3], bool)
    band[4:-4, 4:-4] = False
    flashing = vivid[:, band].mean(1) > 0.75
    answers = {"flash_moment": "never", "flash_color": NAMES[0]}
    if flashing.any():
        middle = np.flatnonzero(flashing).mean()
        answers["flash_moment"] = MOMENTS[int(3 * (middle + 0.5) / len(frames))]
        answers["flash_color"] = _majority(named[flashing][:, band])
    calm = ~flashing & (vivid.sum((1, 2)) > 20)
    if not calm.any():
        return answers | {"color": NAMES[0], "direction": "left", "shape": "square"}
    answers["color"] = _majority(named[calm][vivid[calm]])
    answers["direction"] = _direction(vivid[calm])
    answers["shape"] = _shape(vivid[calm])
    return answers


def _nearest_color(frames: np.ndarray) -> np.ndarray:
    palette = np.array(list(RGB.values()), np.float32)
    # |x - p|^2 without |x|^2, which is equal for every p.
    return ((palette**2).sum(-1) - 2 * frames.astype(np.float32) @ palette.T).argmin(-1)


def _majority(indices: np.ndarray) -> str:
    return NAMES[np.bincount(indices.ravel(), minlength=len(NAMES)).argmax()]


def _direction(masks: np.ndarray) -> str:
    centers = np.array([np.argwhere(mask).mean(0) for mask in masks])  # F (y, x)
    dy, dx = centers[-1] - centers[0]
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def _shape(masks: np.ndarray) -> str:
    fills, tops = [], []
    for mask in masks:
        y, x = np.nonzero(mask)
        box = mask[y.min() : y.max() + 1, x.min() : x.max() + 1]
        fills.append(box.mean())
        tops.append(box[: len(box) // 2].sum() / box.sum())
    fill, top = np.median(fills), np.median(tops)
    if top < 0.36:
        return "triangle"
    if fill > 0.88:
        return "square"
    return "circle" if fill > 0.67 else "cross"
