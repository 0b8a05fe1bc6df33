"""Clips of one video: cut in one pass, encoded once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.engine.clips import ArrayFrames, MemoryClipCache, VideoClips, cut_clips
from xcomp_jax.inference.answer import Stopwatch

FRAMES = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def make(calls: list[int] | None = None) -> VideoClips:
    """An encoder whose tokens are the mean colour of each frame."""

    def encode(clips: np.ndarray) -> np.ndarray:
        if calls is not None:
            calls.append(len(clips))
        return clips.mean((2, 3, 4))[..., None]

    return VideoClips(
        encode,
        ArrayFrames(FRAMES),
        MemoryClipCache(),
        num_frames=24,
        clip_frames=4,
        clips_per_call=3,
    )


@given(starts=st.lists(st.integers(0, 23), min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_clips_hold_their_frames(starts: list[int]) -> None:
    clips = make()
    wanted = [clips.clip_at(start) for start in starts]
    got = clips.tokens(wanted, Stopwatch())
    np.testing.assert_array_equal(got[..., 0], wanted)


def test_frames_of_finished_clips_are_let_go() -> None:
    clips = [tuple(range(i, i + 4)) for i in range(20)]
    places = list(range(24))
    alive: list[int] = []

    def frames():
        for place in places:
            alive.append(place)
            yield FRAMES[place]

    for number, pixels in cut_clips(places, frames(), clips):
        assert pixels[:, 0, 0, 0].tolist() == list(clips[number])
        assert len(alive) == clips[number][-1] + 1, "nothing is read ahead"


def test_each_clip_is_encoded_once() -> None:
    calls: list[int] = []
    clips, watch = make(calls), Stopwatch()
    clips.prepare([0, 4, 8, 22, 4], watch)
    assert watch.work == {"clips reused": 0, "clips encoded": 4}
    assert calls == [3, 1]
    clips.prepare([0, 22, 12], watch)
    assert watch.work == {"clips reused": 2, "clips encoded": 5}
    # Chosen frames that are a known clip are; others are encoded, and no others.
    recut = [(0, 1, 2, 3), (5, 6, 7, 8), (1, 5, 9, 20), (22, 23, 0, 1)]
    watch = Stopwatch()
    np.testing.assert_array_equal(clips.tokens(recut, watch)[..., 0], recut)
    assert watch.work == {"clips reused": 2, "clips encoded": 2}
    watch = Stopwatch()
    clips.tokens(recut, watch)
    assert watch.work == {"clips reused": 3, "clips encoded": 1}, "consecutive frames are kept"


def test_frames_that_do_not_come_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(cut_clips([0, 1, 2, 3], iter(FRAMES[:3]), [(0, 1, 2, 3)]))
