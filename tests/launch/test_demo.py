"""Tests that the packaged demo is what its recipe makes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from xcomp_jax.checksums import checksums_of
from xcomp_jax.demo import FOLDER, demo_videos
from xcomp_jax.files import read_json
from xcomp_jax.launch.studies.demo.scene import random_scene, render_frames
from xcomp_jax.launch.studies.demo.videos import FPS, HEIGHT, SCENES, WIDTH, listed_questions
from xcomp_jax.video.decode import read_frames


def test_demo_files_have_hashes_of_recipe() -> None:
    recipe = read_json(FOLDER / "recipe.json")
    files = [FOLDER / name for name in recipe["sha256"]]
    assert recipe["sha256"] == {
        name: sha256 for name, (_, sha256) in checksums_of(FOLDER, files).items()
    }
    stored = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.name for path in set(stored) - set(files)} == {"__init__.py", "recipe.json"}
    assert sum(path.stat().st_size for path in stored) < 2_000_000


@pytest.mark.parametrize("name", SCENES)
def test_demo_video_equals_rendered_scene(name: str) -> None:
    scene = SCENES[name]
    (video,) = (video for video in demo_videos() if video.path.stem == name)
    times = [a.start + 0.75 for a in scene.appearances]
    decoded = np.stack(
        [frame for frame in read_frames(video.path, [round(t * FPS) for t in times])]
    ).astype(float)
    rendered = render_frames(scene, times, width=WIDTH, height=HEIGHT)
    assert abs(decoded - rendered).mean() < 4
    # Control: two seconds earlier nothing has appeared yet.
    earlier = render_frames(scene, [t - 2 for t in times], width=WIDTH, height=HEIGHT)
    assert abs(decoded - earlier).mean() > 20
    assert [dataclasses.asdict(q) for q in video.questions] == listed_questions(name)


def test_random_scene_appearances_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    for seed in range(100):
        scene = random_scene(rng, seed)
        spans = sorted((a.start, a.stop) for a in scene.appearances)
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))
        assert all(0 <= start < stop <= scene.seconds for start, stop in spans)


def test_demo_questions_need_the_video() -> None:
    by_text: dict[str, list[str]] = {}
    for video in demo_videos():
        for question in video.questions:
            by_text.setdefault(question.text, []).append(question.answer)
    # The most that a reader of the questions alone answers right.
    by_chance = sum(max(map(texts.count, texts)) for texts in by_text.values())
    assert by_chance <= 0.5 * sum(map(len, by_text.values()))
