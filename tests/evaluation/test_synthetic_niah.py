"""Tests of the generated haystack and needles."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from xcomp_jax.data.synthetic.render import RGB
from xcomp_jax.evaluation.media import VideoFinder
from xcomp_jax.evaluation.synthetic_niah import haystack_frames, write_synthetic_niah
from xcomp_jax.evaluation.tasks import TASKS
from xcomp_jax.video.probe import probe


def written(folder: Path, seed: int = 0) -> Path:
    write_synthetic_niah(folder, seed=seed, frames=48, size=32, questions=12, chains=3)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def saturated_colors(picture: np.ndarray) -> set[str]:
    """Names the colors that fill at least 2 % of a picture."""
    pixels = picture.reshape(-1, 3)
    return {name for name, color in RGB.items() if np.mean(np.all(pixels == color, axis=1)) >= 0.02}


def test_write_synthetic_niah_same_seed_same_files(tmp_path: Path) -> None:
    first, second = digests(written(tmp_path / "a")), digests(written(tmp_path / "b"))
    assert first == second
    assert len(first) == 1 + 12 + 3 * 7 + 2
    other = digests(written(tmp_path / "c", seed=1))
    assert {name for name in first if first[name] != other[name]} >= {
        "haystack_videos/video_haystack.mp4",
        "niah-coco-singlehop_20.json",
        "niah-coco-multihop-100.json",
    }


def test_single_hop_answer_is_color_of_needle(tmp_path: Path) -> None:
    folder = written(tmp_path)
    questions = TASKS["niah_single"].load(folder)
    assert len(questions) == 12 * 60
    assert {question.gold for question in questions} == {0, 1, 2, 3}
    for question in questions[:12]:
        (needle,) = question.needles
        with Image.open(folder / needle.image) as image:
            colors = saturated_colors(np.asarray(image))
        assert question.gold is not None
        assert colors == {question.options[question.gold]}
    place = VideoFinder(folder).find(questions[0])
    info = probe(place.path)
    assert (info.num_frames, info.fps) == (48, 1.0)


def test_multi_hop_chain_leads_to_answer(tmp_path: Path) -> None:
    folder = written(tmp_path)
    caption, color = TASKS["niah_multi"].load(folder)[:2]
    assert [needle.frame for needle in caption.needles] == [0, 166, 333, 500, 666, 833, 1000]
    halves = []
    for needle in caption.needles:
        with Image.open(folder / needle.image) as image:
            picture = np.asarray(image)
        halves.append((picture[:, :16], picture[:, 16:]))
    for (_, right), (left, _) in itertools.pairwise(halves):
        assert np.array_equal(right, left)
    assert color.gold is not None
    assert caption.gold is not None
    assert saturated_colors(halves[-1][1]) == {color.options[color.gold]}
    left_color = caption.options[caption.gold].split()[1]
    assert saturated_colors(halves[-1][0]) == {left_color}
    assert len({picture.tobytes() for picture, _ in halves}) == 7


def test_haystack_grey_and_prefix_of_longer_one() -> None:
    frames = haystack_frames(45, size=32, seed=3)
    assert np.array_equal(frames, haystack_frames(90, size=32, seed=3)[:45])
    assert np.all(frames == frames[..., :1])
    steps = np.abs(np.diff(frames[..., 0].astype(int), axis=0)).max()
    assert 0 < steps < 10  # changes slowly
    assert np.abs(frames[0].astype(int) - frames[40]).mean() > 10
    assert not any(saturated_colors(frame) for frame in frames)
