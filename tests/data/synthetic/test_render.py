"""Rendered videos: a rule-based solver finds every answer in the pixels, and only there."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest

from tests.data.synthetic.rule_solver import solve
from xcomp_jax.data.synthetic.generate import write_videos
from xcomp_jax.data.synthetic.questions import KINDS, questions
from xcomp_jax.data.synthetic.render import render
from xcomp_jax.data.synthetic.video_spec import VideoSpec, plan_specs
from xcomp_jax.video.decode import read_frames

NUM_VIDEOS = 96


@pytest.fixture(scope="module")
def specs() -> tuple[VideoSpec, ...]:
    return plan_specs(11, NUM_VIDEOS)


@pytest.fixture(scope="module")
def decoded(
    specs: tuple[VideoSpec, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[np.ndarray]:
    """Frames of every spec after encoding and decoding, uint8 [F, H, W, 3]."""
    folder = tmp_path_factory.mktemp("videos")
    write_videos(specs, folder, progress=False)
    return [
        np.stack(list(read_frames(folder / spec.file_name, range(spec.num_frames))))
        for spec in specs
    ]


def accuracy(specs: tuple[VideoSpec, ...], videos: list[np.ndarray]) -> dict[str, float]:
    """Accuracy of the rule-based solver by kind."""
    correct = collections.defaultdict(list)
    for spec, frames in zip(specs, videos, strict=True):
        guesses = solve(frames)
        for question in questions(spec):
            correct[question.kind].append(guesses[question.kind] == question.answer)
    return {kind: float(np.mean(values)) for kind, values in correct.items()}


def test_render_is_deterministic_and_file_names_follow_content(
    specs: tuple[VideoSpec, ...],
) -> None:
    np.testing.assert_array_equal(render(specs[0]), render(specs[0]))
    assert render(specs[0]).shape == (16, 64, 64, 3)
    assert (render(specs[0]) != render(dataclasses.replace(specs[0], seed=1))).any()
    other = dataclasses.replace(specs[0], num_frames=24)
    assert other.file_name != specs[0].file_name
    assert len({spec.file_name for spec in specs}) == NUM_VIDEOS


def test_render_answers_survive_the_mp4_file(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    errors = [
        np.abs(render(spec).astype(int) - video).mean()
        for spec, video in zip(specs, decoded, strict=True)
    ]
    assert max(errors) < 4  # gray levels
    scores = accuracy(specs, decoded)
    assert set(scores) == set(KINDS)
    assert min(scores.values()) > 0.95, scores


def test_solver_blank_or_swapped_videos_stay_near_chance(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    blank = accuracy(specs, [np.full_like(video, 60) for video in decoded])
    assert max(blank.values()) < 0.4, blank
    swapped = accuracy(specs, decoded[1:] + decoded[:1])
    assert max(swapped.values()) < 0.4, swapped


def test_solver_shuffled_frames_lose_temporal_answers(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    """Reversal swaps left and right. Shuffling leaves only the axis of movement and the absence of
    a flash visible, which bounds both kinds by 1/2; kinds without temporal order are unaffected."""
    reversed_scores = accuracy(specs, [video[::-1] for video in decoded])
    assert reversed_scores["direction"] < 0.05, reversed_scores
    # "middle" and "never" are unaffected by reversal.
    assert reversed_scores["flash_moment"] < 0.55, reversed_scores
    rng = np.random.default_rng(0)
    shuffled = accuracy(specs, [video[rng.permutation(len(video))] for video in decoded])
    assert shuffled["direction"] < 0.65, shuffled
    assert shuffled["flash_moment"] < 0.7, shuffled
    assert min(shuffled[kind] for kind in ("color", "shape", "flash_color")) > 0.95, shuffled


def test_solver_sparse_frames_miss_the_flash(
    specs: tuple[VideoSpec, ...], decoded: list[np.ndarray]
) -> None:
    """Every eighth frame misses the short flash in most videos."""
    sparse = accuracy(specs, [video[::8] for video in decoded])
    assert sparse["flash_color"] < 0.65, sparse
