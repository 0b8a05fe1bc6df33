"""Writes the scene videos of one seed: for training, for development, for tests, and long ones.

No two sets of any two seeds share a texture. Training and development videos are manifests of
questions; a test set is a folder with `questions.json` and `videos/`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.data.synthetic.generate import VIDEO_FOLDER, write_videos
from xcomp_jax.data.synthetic.scenes import (
    SceneVideo,
    plan_scenes,
    render_scenes,
    scene_rows,
)
from xcomp_jax.files import write_json

END_BIAS = 0.6
"""Training flashes moved to an end of the video: the bias of position that is planted."""

LONG_SCENES = 128
"""Scenes of a long video, one of which flashes, anywhere."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneSets:
    """Paths of one seed's sets."""

    train_manifest: Path
    validation_manifest: Path
    test: Path
    long: Path


def write_scene_sets(
    folder: Path,
    *,
    seed: int,
    train: int,
    validation: int,
    test: int,
    long: int,
    progress: bool = True,
) -> SceneSets:
    """Generates what is missing in `folder`; numbers are those of videos, equal for equal seeds."""
    sets = SceneSets(
        train_manifest=folder / "train.json",
        validation_manifest=folder / "validation.json",
        test=folder / "test",
        long=folder / "long",
    )
    base = 4 * seed
    plans = (
        (sets.train_manifest, plan_scenes(base, train, end_bias=END_BIAS), True),
        (sets.validation_manifest, plan_scenes(base + 1, validation, end_bias=END_BIAS), False),
        (sets.test / "questions.json", plan_scenes(base + 2, test, end_bias=END_BIAS), False),
        (
            sets.long / "questions.json",
            plan_scenes(base + 3, long, scenes=LONG_SCENES, kinds=("flash",)),
            False,
        ),
    )
    for path, videos, conversation in plans:
        write_videos(videos, path.parent / VIDEO_FOLDER, render=render_scenes, progress=progress)
        _write_questions(videos, path, conversation=conversation)
    return sets


def _write_questions(videos: Sequence[SceneVideo], path: Path, *, conversation: bool) -> None:
    rows = []
    for video in videos:
        entries = scene_rows(video, f"{VIDEO_FOLDER}/{video.file_name}", conversation=conversation)
        evidence = {"evidence": [video.flash_seconds]} if len(video.scenes) == LONG_SCENES else {}
        rows += [entry | evidence for entry in entries]
    write_json(path, rows)
