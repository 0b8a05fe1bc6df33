"""Tests that questions about one video share the clips of their selected frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.tiny import TINY, tiny_params
from xcomp_jax.account import Account
from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.recut_clips import RecutClips
from xcomp_jax.inference.session import Session
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.video.sampling import FramePlan

CONFIG = dataclasses.replace(TINY, vision=dataclasses.replace(TINY.vision, clip_frames=8))
FRAMES = 256
SELECTION = SelectionConfig(select=64, min_frames=0, window_frames=128, layers=(0, 2))
WORDS = ("dog", "cat", "car", "man", "sun", "moon", "tree", "house", "ball", "train")


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    return Session(CONFIG, tiny_params(CONFIG), load_tokenizer(None), selection=SELECTION)


def watch(session: Session) -> tuple[EncodedVideo, int]:
    """Encodes a video of scenes with noise; returns it with its number of encoded clips."""
    rng, size = np.random.default_rng(0), CONFIG.vision.image_size
    scenes = [
        rng.integers(0, 256, (1, size, size, 3)) + rng.integers(-20, 20, (length, size, size, 3))
        for length in rng.integers(10, 40, FRAMES // 10)
    ]
    pixels = np.clip(np.concatenate(scenes)[:FRAMES], 0, 255).astype(np.uint8)
    times = tuple(index / 4 for index in range(FRAMES))
    plan = FramePlan(tuple(range(FRAMES)), FRAMES / 4, FRAMES, times)
    with Account() as account:
        video = session.encode_frames(ArrayFrames(pixels), plan, name="scenes")
        return video, account.take().work["clips encoded"]


def encoded_by_ten(session: Session, video: EncodedVideo) -> list[int]:
    """Asks ten questions; returns the clips that each encodes."""
    questions = [f"Why does the {word} move in part {n}?" for n, word in enumerate(WORDS)]
    return [session.ask(video, text).work.get("clips encoded", 0) for text in questions]


def test_ten_questions_encode_little_more_than_one(session: Session) -> None:
    video, prepared = watch(session)
    counts = encoded_by_ten(session, video)
    assert counts[0] > 0, "selected frames are no neighbours"
    ratio = (prepared + sum(counts)) / (prepared + counts[0])
    assert ratio <= 1.3
    # The original encodes every window and all selected frames for every question.
    assert video.windows is not None
    windows = len(video.windows.starts) * video.windows.length
    original = 10 * (windows + 64) // 8
    assert original / (prepared + sum(counts)) > 8
    # Control: without the clips of earlier questions, more are encoded.
    video.recut = RecutClips(max_bytes=0)
    assert sum(encoded_by_ten(session, video)) > sum(counts)


def test_kept_clips_equal_encoded_ones_within_bound(session: Session) -> None:
    video, _ = watch(session)
    rng = np.random.default_rng(1)
    selections = [tuple(sorted(rng.choice(FRAMES, 16, replace=False).tolist())) for _ in range(4)]
    expected = [video.visual_tokens(frames) for frames in selections]
    clip_bytes = expected[0].nbytes // 2
    video.recut = RecutClips(max_bytes=5 * clip_bytes)
    for frames in selections:
        video.visual_tokens(frames)
    with Account() as account:
        for frames, tokens in zip(selections[::-1], expected[::-1], strict=True):
            np.testing.assert_array_equal(video.visual_tokens(frames), tokens)
        # The newest five of eight clips are kept; what is encoded again replaces older ones.
        assert account.take().work["clips encoded"] == 3
