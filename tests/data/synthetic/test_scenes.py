"""Tests of the generated scenes: every answer is read from the pixels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from xcomp_jax.data.synthetic.render import RGB
from xcomp_jax.data.synthetic.scene_sets import LONG_SCENES, write_scene_sets
from xcomp_jax.data.synthetic.scenes import (
    COUNTS,
    FRAMES_PER_SCENE,
    PLACES,
    SceneVideo,
    plan_scenes,
    render_scenes,
    scene_questions,
)
from xcomp_jax.files import read_json

CENTERS = {"left": (32, 8), "right": (32, 56), "up": (8, 32), "down": (56, 32)}


def squares(frame: np.ndarray) -> dict[str, str]:
    """Reads the color of each square."""
    return {
        place: min(RGB, key=lambda name: np.abs(frame[CENTERS[place]] - np.array(RGB[name])).sum())
        for place in PLACES
    }


def answer_from_pixels(video: SceneVideo, kind: str, place: str, color: str) -> str:
    frames = render_scenes(video).astype(int)
    scenes = [squares(frame)[place] for frame in frames[::FRAMES_PER_SCENE]]
    (flash,) = np.flatnonzero(frames[::FRAMES_PER_SCENE, 3, 3].min(-1) > 200).tolist()
    if kind == "count":
        return COUNTS[scenes.count(color)]
    if kind == "direction":
        white = frames[:, 18:46, 18:46].min(-1) > 200
        (y0, x0), (y1, x1) = (np.argwhere(white[number]).mean(0) for number in (0, -1))
        if abs(x1 - x0) > abs(y1 - y0):
            return "right" if x1 > x0 else "left"
        return "down" if y1 > y0 else "up"
    numbers = {"first": 0, "last": -1, "flash": flash, "before": flash - 1, "after": flash + 1}
    return scenes[numbers[kind]]


def test_scene_answers_equal_pixels() -> None:
    kinds: Counter[str] = Counter()
    for video in plan_scenes(3, 24, end_bias=0.6):
        for asked, question in zip(video.asked, scene_questions(video), strict=True):
            assert question.answer == answer_from_pixels(video, *asked), (asked, question)
            kinds[question.kind] += 1
    assert set(kinds) == {"first", "last", "flash", "before", "after", "count", "direction"}


def test_scene_answers_are_balanced_and_biased_as_planned() -> None:
    answers: dict[str, Counter[str]] = {}
    for video in plan_scenes(5, 1200):
        for question in scene_questions(video):
            answers.setdefault(question.kind, Counter())[question.answer] += 1
    for kind, counts in answers.items():
        total = counts.total()
        assert len(counts) == 4
        assert max(abs(n / total - 0.25) for n in counts.values()) < 0.05, (kind, counts)

    def share_at_ends(end_bias: float) -> float:
        return float(np.mean([v.flash in (0, 3) for v in plan_scenes(6, 1200, end_bias=end_bias)]))

    assert abs(share_at_ends(0.6) - (0.6 + 0.4 * 0.5)) < 0.05
    assert abs(share_at_ends(0.0) - 0.5) < 0.05, "control: no bias"


def test_scene_sets_share_no_video_and_resume(tmp_path: Path) -> None:
    counts = {"train": 3, "validation": 2, "test": 2, "long": 1}
    sets = [
        write_scene_sets(tmp_path / str(seed), seed=seed, progress=False, **counts)
        for seed in (1, 2)
    ]
    files = [file for number in ("1", "2") for file in (tmp_path / number).rglob("*.mp4")]
    assert len(files) == len({file.name for file in files}) == 16
    before = [file.stat().st_mtime_ns for file in files]
    files[0].unlink()
    write_scene_sets(tmp_path / "1", seed=1, progress=False, **counts)
    assert [file.stat().st_mtime_ns for file in files][1:] == before[1:]
    (entry,) = read_json(sets[0].long / "questions.json")
    ((start, end),) = entry["evidence"]
    assert 0 <= start < end <= LONG_SCENES * FRAMES_PER_SCENE / 8
    assert (sets[0].long / entry["video"]).is_file()
