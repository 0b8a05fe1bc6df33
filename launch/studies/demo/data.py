"""Writes short videos of random scenes and the questions that the demo checkpoint learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.data.synthetic.mp4 import encode_mp4, is_complete_mp4
from xcomp_jax.data.synthetic.questions import Question, manifest_row
from xcomp_jax.data.synthetic.video_spec import COLORS
from xcomp_jax.files import write_json
from xcomp_jax.launch.studies.demo.scene import Scene, random_scene, render_frames

WORDINGS = {
    "circle": ("What color is the circle?", "What color is the moving circle?"),
    "ring": ("What color is the ring?", "What color is the ring that appears?"),
    "bar": ("What color is the bar?", "What color is the bar that appears?"),
    "flash": ("What color is the flash?", "What color flashes briefly?"),
}
"""Wordings of the question about each subject."""

TRAIN_VIDEOS, HELD_OUT_VIDEOS = 4096, 64
RENDER_FPS = 8
FILE_FPS = (1, 2, 3, 4, 5, 6, 7, 8)
"""Frame rates written into the files, so that durations of 2 to 16 seconds are trained."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One video file of a scene."""

    scene: Scene
    fps: int
    name: str


def write_data(folder: Path, *, seed: int = 0) -> None:
    """Writes `folder/videos`, `train.json` and `held_out.json`; complete videos are kept."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 11])
    count = TRAIN_VIDEOS + HELD_OUT_VIDEOS
    clips = [
        Clip(random_scene(rng, number), int(rng.choice(FILE_FPS)), f"videos/{number:04d}.mp4")
        for number in range(count)
    ]

    def write(clip: Clip) -> None:
        path = folder / clip.name
        if not is_complete_mp4(path):
            frames = render_frames(clip.scene, clip.scene.times(RENDER_FPS), width=64, height=36)
            encode_mp4(frames, path, fps=clip.fps)

    for _ in ordered_map(write, clips):
        pass
    _write_manifest(clips[:TRAIN_VIDEOS], folder / "train.json", rng, conversations=True)
    _write_manifest(clips[TRAIN_VIDEOS:], folder / "held_out.json", rng, conversations=False)


def scene_questions(scene: Scene, wording: int) -> list[Question]:
    """Returns one question about every subject, in the given wording."""
    options = (*COLORS, "none")
    return [
        Question(kind=kind, text=texts[wording], options=options, answer=scene.color(kind))
        for kind, texts in WORDINGS.items()
    ]


def _write_manifest(
    clips: list[Clip], path: Path, rng: np.random.Generator, *, conversations: bool
) -> None:
    """Writes one row for every question; with `conversations`, the others follow in it."""
    rows = []
    for clip in clips:
        for first in range(len(WORDINGS)):
            about = scene_questions(clip.scene, int(rng.integers(2)))
            turns = about[first:] + [about[i] for i in rng.permutation(first)]
            rows.append(manifest_row(clip.name, turns if conversations else turns[:1]))
    write_json(path, rows)
