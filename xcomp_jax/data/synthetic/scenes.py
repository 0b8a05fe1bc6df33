"""Videos of scenes whose questions need detail, order, counting and several frames.

Every scene shows four colored squares and lasts a few frames; a white dot moves across all scenes,
and white corners flash in one of them. The answers lie in different tokens of a frame and in
different frames, so that a model has to carry a whole scene through every reduction of tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from xcomp_jax.data.synthetic.questions import Question, manifest_row
from xcomp_jax.data.synthetic.render import RGB, texture
from xcomp_jax.data.synthetic.video_spec import COLORS, DIRECTIONS

PLACES = ("left", "right", "up", "down")
COUNTS = ("zero", "one", "two", "three")
KINDS = ("first", "last", "flash", "before", "after", "count", "direction")

FRAMES_PER_SCENE = 2
FPS = 8
SIZE = 64

MAX_VIDEOS_PER_SEED = 2**20

RENDER_VERSION = 1
"""Part of every file name; raise it when `render_scenes` or the encoder settings change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneVideo:
    """Scenes in order.

    seed: decides the texture; unique among videos.
    scenes: color of the squares at `PLACES`, by scene.
    flash: number of the scene with white corners.
    direction: direction in which the dot moves.
    asked: (kind, place, color) of the questions; the color is that of a question of kind `count`.
    """

    seed: int
    scenes: tuple[tuple[str, ...], ...]
    flash: int
    direction: str
    asked: tuple[tuple[str, str, str], ...]
    fps: int = FPS

    @property
    def file_name(self) -> str:
        """Name that is unique to the content, across runs."""
        fields = json.dumps([RENDER_VERSION, dataclasses.asdict(self)], sort_keys=True)
        return f"s{self.seed:012d}-{hashlib.sha256(fields.encode()).hexdigest()[:8]}.mp4"

    @property
    def num_frames(self) -> int:
        return FRAMES_PER_SCENE * len(self.scenes)

    @property
    def flash_seconds(self) -> tuple[float, float]:
        """Start and end of the scene with the flash."""
        length = FRAMES_PER_SCENE / self.fps
        return self.flash * length, (self.flash + 1) * length


def plan_scenes(
    seed: int,
    count: int,
    *,
    scenes: int = 4,
    kinds: Sequence[str] = KINDS,
    end_bias: float = 0.0,
) -> tuple[SceneVideo, ...]:
    """Plans videos with one question of every kind that applies; seeds share no texture.

    Args:
        end_bias: share of the flashes that are moved to the first or the last scene, on top of
            those that are there by chance. Trains a model that expects its evidence at both ends.
    """
    if not 1 <= count <= MAX_VIDEOS_PER_SEED:
        raise ValueError(f"{count=} must lie in [1, {MAX_VIDEOS_PER_SEED}]")
    return tuple(
        _plan(seed * MAX_VIDEOS_PER_SEED + number, scenes, kinds, end_bias)
        for number in range(count)
    )


def scene_questions(video: SceneVideo) -> tuple[Question, ...]:
    """Returns the questions of a video, in the order of `video.asked`."""
    return tuple(_question(video, *asked) for asked in video.asked)


def render_scenes(video: SceneVideo) -> np.ndarray:
    """Renders uint8 [F, H, W, 3] (RGB)."""
    frames = np.repeat(
        texture(np.random.default_rng([video.seed, 4]), SIZE)[None], video.num_frames, axis=0
    )
    for number, colors in enumerate(video.scenes):
        scene = frames[number * FRAMES_PER_SCENE : (number + 1) * FRAMES_PER_SCENE]
        for place, color in zip(PLACES, colors, strict=True):
            scene[:, *_AREAS[place]] = RGB[color]
        if number == video.flash:
            for rows in (_EDGE, _FAR_EDGE):
                for columns in (_EDGE, _FAR_EDGE):
                    scene[:, rows, columns] = 245
    _draw_dot(frames, video.direction)
    return np.rint(frames).astype(np.uint8)


def scene_rows(video: SceneVideo, path: str, *, conversation: bool) -> list[dict[str, Any]]:
    """Returns LLaVA-style entries about the video at `path`, one per question.

    Args:
        conversation: every entry goes on with the other questions.
    """
    asked = scene_questions(video)
    return [
        manifest_row(path, asked[i:] + asked[:i] if conversation else asked[i : i + 1])
        for i in range(len(asked))
    ]


_EDGE, _MIDDLE, _FAR_EDGE = slice(2, 14), slice(18, 46), slice(50, 62)
_AREAS = {
    "left": (_MIDDLE, _EDGE),
    "right": (_MIDDLE, _FAR_EDGE),
    "up": (_EDGE, _MIDDLE),
    "down": (_FAR_EDGE, _MIDDLE),
}
_DOT_RADIUS, _DOT_PATH = 4.0, (22.0, 42.0)


def _plan(seed: int, scenes: int, kinds: Sequence[str], end_bias: float) -> SceneVideo:
    rng = np.random.default_rng([seed, 3])
    colors = rng.choice(COLORS, size=(scenes, len(PLACES)))
    flash = int(rng.integers(scenes))
    if rng.uniform() < end_bias:
        flash = int(rng.choice([0, scenes - 1]))
    counted, target = int(rng.integers(len(PLACES))), str(rng.choice(COLORS))
    if "count" in kinds:
        others = [color for color in COLORS if color != target]
        repeats = int(rng.integers(len(COUNTS)))
        column = np.array([target] * repeats + list(rng.choice(others, scenes - repeats)))
        colors[:, counted] = rng.permutation(column)
    applicable = [
        kind
        for kind in kinds
        if not (kind == "before" and flash == 0) and not (kind == "after" and flash == scenes - 1)
    ]
    asked = tuple(
        (kind, PLACES[counted] if kind == "count" else str(rng.choice(PLACES)), target)
        for kind in applicable
    )
    return SceneVideo(
        seed=seed,
        scenes=tuple(tuple(str(color) for color in scene) for scene in colors),
        flash=flash,
        direction=str(rng.choice(DIRECTIONS)),
        asked=asked,
    )


def _question(video: SceneVideo, kind: str, place: str, color: str) -> Question:
    column = [scene[PLACES.index(place)] for scene in video.scenes]
    flash = video.flash
    square = f"What color is the {place} square"
    text, options, answer = {
        "first": lambda: (f"{square} first?", COLORS, column[0]),
        "last": lambda: (f"{square} last?", COLORS, column[-1]),
        "flash": lambda: (f"{square} during the flash?", COLORS, column[flash]),
        "before": lambda: (f"{square} before the flash?", COLORS, column[flash - 1]),
        "after": lambda: (f"{square} after the flash?", COLORS, column[flash + 1]),
        "count": lambda: (
            f"How many times is the {place} square {color}?",
            COUNTS,
            COUNTS[column.count(color)],
        ),
        "direction": lambda: (
            "Which way does the white circle move?",
            DIRECTIONS,
            video.direction,
        ),
    }[kind]()
    return Question(kind=kind, text=text, options=options, answer=answer)


def _draw_dot(frames: np.ndarray, direction: str) -> None:
    """Draws a white dot that crosses the middle once."""
    start, end = _DOT_PATH if direction in ("right", "down") else _DOT_PATH[::-1]
    along, across = np.linspace(start, end, len(frames)), np.full(len(frames), SIZE / 2)
    x, y = (along, across) if direction in ("left", "right") else (across, along)
    pixel = np.arange(SIZE) + 0.5
    distance = np.hypot(pixel[None, None, :] - x[:, None, None], pixel[:, None] - y[:, None, None])
    frames[distance <= _DOT_RADIUS] = 245
