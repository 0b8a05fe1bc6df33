"""Clips of one video: cut in one pass, each encoded once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.account import Account
from xcomp_jax.engine.clips import ArrayFrames, MemoryClipCache, VideoClips, cut_clips
from xcomp_jax.engine.encoder import ClipEncoder

FRAMES = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def make(calls: list[int] | None = None) -> VideoClips:
    """An encoder whose tokens are the mean colour of each frame."""

    def program(clips: np.ndarray) -> Any:
        if calls is not None:
            calls.append(len(clips))
        return clips.mean((2, 3, 4))[..., None]

    return VideoClips(
        ClipEncoder(program, clips_per_call=3),
        ArrayFrames(FRAMES),
        MemoryClipCache(),
        num_frames=24,
        clip_frames=4,
    )


@given(starts=st.lists(st.integers(0, 23), min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_tokens_match_frames(starts: list[int]) -> None:
    clips = make()
    wanted = [clips.clip_at(start) for start in starts]
    got = clips.tokens(wanted)
    np.testing.assert_array_equal(got[..., 0], wanted)


def test_cut_clips_holds_unfinished_clips_only() -> None:
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


def test_clips_encoded_once() -> None:
    calls: list[int] = []
    clips = make(calls)
    with Account() as account:
        clips.prepare([0, 4, 8, 22, 4])
        assert account.take().work == {"clips reused": 0, "clips encoded": 4}
        assert calls == [3, 3], "the last call is padded"
        clips.prepare([0, 22, 12])
        assert account.take().work == {"clips reused": 2, "clips encoded": 1}
        # Selected frames that form a known clip are reused; only the others are encoded.
        recut = [(0, 1, 2, 3), (5, 6, 7, 8), (1, 5, 9, 20), (22, 23, 0, 1)]
        np.testing.assert_array_equal(clips.tokens(recut)[..., 0], recut)
        assert account.take().work == {"clips reused": 2, "clips encoded": 2}
        clips.tokens(recut)
        assert account.take().work == {"clips reused": 3, "clips encoded": 1}, "consecutive: kept"


def test_missing_frames_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(cut_clips([0, 1, 2, 3], iter(FRAMES[:3]), [(0, 1, 2, 3)]))
