"""Tests cutting and encoding the clips of one video."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcomp_jax.account import Account
from xcomp_jax.engine.clips import ArrayFrames, MemoryClipCache, VideoClips
from xcomp_jax.engine.cutting import cut_clips
from xcomp_jax.engine.encoder import ClipEncoder

FRAMES = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def video_clips(calls: list[int] | None = None) -> VideoClips:
    """Builds clips whose tokens are the mean color of each frame."""

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
def test_tokens_any_starts_match_frames(starts: list[int]) -> None:
    clips = video_clips()
    expected = [clips.clip_at(start) for start in starts]
    np.testing.assert_array_equal(clips.tokens(expected)[..., 0], expected)


def test_cut_clips_reads_no_frame_ahead() -> None:
    clips = [tuple(range(i, i + 4)) for i in range(20)]
    indices = list(range(24))
    frames_read: list[int] = []

    def frames():
        for index in indices:
            frames_read.append(index)
            yield FRAMES[index]

    for number, pixels in cut_clips(indices, frames(), clips):
        assert [frame[0, 0, 0] for frame in pixels] == list(clips[number])
        assert len(frames_read) == clips[number][-1] + 1


def test_clips_repeated_are_encoded_once() -> None:
    calls: list[int] = []
    clips = video_clips(calls)
    with Account() as account:
        clips.prepare([0, 4, 8, 22, 4])
        assert account.take().work == {"clips reused": 0, "clips encoded": 4}
        assert calls == [3, 3], "the last call is padded"
        clips.prepare([0, 22, 12])
        assert account.take().work == {"clips reused": 2, "clips encoded": 1}
        # Selected frames that form a stored clip are reused; only the others are encoded.
        recut = [(0, 1, 2, 3), (5, 6, 7, 8), (1, 5, 9, 20), (22, 23, 0, 1)]
        np.testing.assert_array_equal(clips.tokens(recut)[..., 0], recut)
        assert account.take().work == {"clips reused": 2, "clips encoded": 2}
        clips.tokens(recut)
        assert account.take().work == {"clips reused": 3, "clips encoded": 1}, (
            "only consecutive are kept"
        )


def test_cut_clips_missing_frame_raises() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(cut_clips([0, 1, 2, 3], iter(FRAMES[:3]), [(0, 1, 2, 3)]))
