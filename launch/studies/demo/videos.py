"""Writes the three demo videos and the list of their questions."""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.data.synthetic.mp4 import encode_mp4
from xcomp_jax.files import write_json
from xcomp_jax.launch.studies.demo.data import scene_questions
from xcomp_jax.launch.studies.demo.scene import Appearance, Scene, render_frames

WIDTH, HEIGHT, FPS = 320, 180, 12


def _scene(seed: int, circle: str, seconds: float, *appearances: tuple[str, str, float]) -> Scene:
    return Scene(
        seed=seed,
        seconds=seconds,
        circle=circle,
        appearances=tuple(
            Appearance(kind=kind, color=color, start=start, stop=start + 1.5)
            for kind, color, start in appearances
        ),
    )


SCENES = {
    "evening": _scene(901, "yellow", 30, ("ring", "green", 9), ("bar", "red", 21)),
    "harbor": _scene(
        902, "red", 36, ("ring", "yellow", 9), ("bar", "green", 19), ("flash", "blue", 30)
    ),
    "signals": _scene(903, "green", 42, ("flash", "yellow", 26)),
}
"""Scene of each video by its name."""


def listed_questions(name: str) -> list[dict[str, str]]:
    """Returns the questions about a video and their answers."""
    return [
        {"text": question.text, "answer": question.answer}
        for question in scene_questions(SCENES[name], 0)
    ]


def write_videos(folder: Path) -> None:
    """Writes NAME.mp4 for every scene, and videos.json with titles, questions and answers."""
    listed = []
    for name, scene in SCENES.items():
        path = folder / f"{name}.mp4"
        frames = render_frames(scene, scene.times(FPS), width=WIDTH, height=HEIGHT)
        encode_mp4(frames, path, fps=FPS, crf=24)
        listed.append(
            {
                "file": path.name,
                "title": name.capitalize(),
                "questions": listed_questions(name),
            }
        )
    write_json(folder / "videos.json", listed)
