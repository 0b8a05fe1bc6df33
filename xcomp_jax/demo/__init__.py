"""The demo that ships with the package: a tiny trained checkpoint, three videos, their questions.

`recipe.json` beside this file holds the commands that made the files, and their hashes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "checkpoint"


@dataclasses.dataclass(frozen=True)
class DemoQuestion:
    """A question about a demo video and its answer."""

    text: str
    answer: str


@dataclasses.dataclass(frozen=True)
class DemoVideo:
    """A generated video and the questions that the demo checkpoint was trained to answer."""

    path: Path
    title: str
    questions: tuple[DemoQuestion, ...]


def demo_videos() -> tuple[DemoVideo, ...]:
    """Returns the demo videos in the order of `videos.json`."""
    listed = json.loads((FOLDER / "videos.json").read_text(encoding="utf-8"))
    return tuple(
        DemoVideo(
            path=FOLDER / video["file"],
            title=video["title"],
            questions=tuple(DemoQuestion(**question) for question in video["questions"]),
        )
        for video in listed
    )
