"""Tests questions about video files with the demo model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.write_video import write_video
from xcomp_jax.config import CompressionConfig, ConfigError
from xcomp_jax.engine.buckets import bucket
from xcomp_jax.engine.compilation import COMPILATIONS
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.session import Session
from xcomp_jax.video.errors import VideoError


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    return demo_session()


def make_video(path: Path, seconds: float, seed: int) -> Path:
    """Writes noise that changes from frame to frame, 25 frames per second."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (int(seconds * 25), 6, 8, 3), np.uint8)
    return write_video(path, frames.repeat(8, 1).repeat(8, 2), fps=25)


@pytest.fixture(scope="module", name="videos")
def videos_fixture(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"{i}.mp4", 2 + i, i) for i in range(2)]


def test_ask_in_same_bucket_does_not_compile(session: Session, videos: list[Path]) -> None:
    jax.clear_caches()  # Tests of other files compile the same programs.

    def ask(video: Path, question: str, frames: int) -> int:
        before = COMPILATIONS.count
        session.ask(session.encode_video(video, num_frames=frames), question)
        return COMPILATIONS.count - before

    assert ask(videos[0], "What color is it?", 16) > 0
    ask(videos[0], "What color is it?", 40)
    # Other questions, videos and numbers of frames in the same bucket.
    for video, question, frames in (
        (videos[0], "Which way does it move?", 16),
        (videos[1], "When does it flash?", 16),
        (videos[1], "When does it flash?", 44),
        (videos[0], "What color is it?", 48),
    ):
        assert ask(video, question, frames) == 0, (video, question, frames)
    # Control: another bucket compiles.
    assert ask(videos[0], "What color is it?", 96) > 0


def test_ask_batch_equals_single_questions(session: Session, videos: list[Path]) -> None:
    encoded = [
        session.encode_video(video, num_frames=frames)
        for video, frames in zip(videos, (8, 32), strict=True)
    ]
    questions = ["What color is the moving shape?", "When does the flash appear, early or late?"]
    alone = [
        session.ask(video, question).token_ids
        for video, question in zip(encoded, questions, strict=True)
    ]
    together = session.ask_batch(encoded, questions)
    assert [answer.token_ids for answer in together] == alone
    assert alone[0] != alone[1]


def test_invalid_requests_raise(session: Session, videos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"num_frames=10 is not a positive multiple of 4.*use 8 or 12"
    ):
        session.encode_video(videos[0], num_frames=10)
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        session.encode_video(tmp_path / "missing.mp4")
    with pytest.raises(ValueError, match="the question is empty"):
        session.ask(session.encode_video(videos[0], num_frames=16), "  ")
    encoded = session.encode_video(videos[0], num_frames=8)
    with pytest.raises(ValueError, match="got 1 videos and 2 questions"):
        session.ask_batch([encoded], ["a", "b"])


def test_ask_strides_not_dividing_raises(session: Session, videos: list[Path]) -> None:
    compression = CompressionConfig(
        schedule="stepwise", keep="average", drop_after_layers=(2,), strides=(3,)
    )
    config = dataclasses.replace(session.config, compression=compression)
    other = Session(config, session.params, session.tokenizer)
    with pytest.raises(ConfigError, match="cannot be taken in runs of 3"):
        other.ask(other.encode_video(videos[0], num_frames=8), "What?")


def test_session_larger_tokenizer_raises(session: Session) -> None:
    class Large:
        def __len__(self) -> int:
            return 10**6

    with pytest.raises(ConfigError, match="the tokenizer has 1000000 tokens"):
        Session(session.config, session.params, Large())


def test_bucket_pads_by_at_most_half() -> None:
    assert [bucket(n, 8) for n in (0, 1, 8, 9, 17, 25, 33, 1000, 1025)] == [
        *(8, 8, 8, 16, 24, 32, 48, 1024, 1536)
    ]
    assert all(bucket(n, 16) >= n for n in range(3000))
    assert all(bucket(n, 16) <= 1.5 * n for n in range(33, 3000))
