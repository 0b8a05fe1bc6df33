"""Tests that a live video equals the same frames encoded offline."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.inference.test_selecting import QUESTIONS, SELECTION, noise
from tests.write_video import write_video
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.follow import follow
from xcomp_jax.inference.live import LiveVideo
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.session import Session
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.sampling import FramePlan
from xcomp_jax.video.stream import stream_frames


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    return demo_session(selection=SELECTION)


def offline(session: Session, pixels: np.ndarray, fps: float):
    count = len(pixels)
    times = tuple(i / fps for i in range(count))
    plan = FramePlan(tuple(range(count)), count / fps, count, times)
    return session.encode_frames(ArrayFrames(pixels), plan, name="offline")


def test_live_video_so_far_equals_offline(session: Session) -> None:
    pixels = noise(104, session.config.vision.image_size)
    live = LiveVideo(session, fps=2.0)
    with pytest.raises(ValueError, match="0 frames were pushed but a clip has 4"):
        live.encoded()
    num_questions = 0
    for count, frame in enumerate(pixels, start=1):
        live.push(frame)
        if count in (6, 102):
            num_frames = count // 4 * 4
            video, expected = live.encoded(), offline(session, pixels[:num_frames], 2.0)
            assert video.plan == expected.plan
            answers = [session.ask(v, QUESTIONS[0]) for v in (video, expected)]
            assert answers[0].token_ids == answers[1].token_ids, count
            assert answers[0].selected_frames == answers[1].selected_frames
            assert (answers[0].selected_frames is not None) == (num_frames > 24)
            if answers[0].scores is not None:
                np.testing.assert_allclose(answers[0].scores, answers[1].scores, rtol=1e-6)
            num_questions += 1
    assert num_questions == 2


def test_push_wrong_size_raises(session: Session) -> None:
    live = LiveVideo(session, fps=1.0)
    with pytest.raises(
        ValueError, match=r"the frame is uint8 \[8, 8, 3\], the model takes uint8 \[32, 32, 3\]"
    ):
        live.push(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(TypeError, match="the frame is of type list; pass a NumPy array"):
        live.push([0])  # type: ignore[arg-type]
    for fps in (0, float("inf")):
        with pytest.raises(ValueError, match="is not positive and finite"):
            LiveVideo(session, fps=fps)


def make_video(path: Path, seconds: int) -> bytes:
    return write_video(path, noise(seconds * 10, 64), fps=10).read_bytes()


def test_follow_growing_file_equals_offline(tmp_path: Path) -> None:
    session = demo_session(selection=None)
    data = make_video(tmp_path / "whole.mkv", 8)
    growing = tmp_path / "growing.mkv"
    growing.write_bytes(data[:1000])

    def write() -> None:
        with growing.open("ab") as file:
            for start in range(1000, len(data), 20000):
                file.write(data[start : start + 20000])
                file.flush()
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    with follow(session, growing, fps=2.0, idle_seconds=1.0) as live:
        writer.start()
        assert live.finished.wait(60)
        writer.join()
        assert live.error is None
        video = live.encoded()
    frames = np.stack(list(stream_frames([data], name="whole.mkv", fps=2.0, size=32)))
    assert video.num_frames == 16
    expected = offline(session, frames[:16], 2.0)
    answers = [session.ask(v, QUESTIONS[1]) for v in (video, expected)]
    assert answers[0].token_ids == answers[1].token_ids


def test_stream_frames_unreadable_raises(tmp_path: Path) -> None:
    data = make_video(tmp_path / "whole.mp4", 1)
    with pytest.raises(VideoError, match="readable from its beginning"):
        list(stream_frames([b"not a video at all" * 100], name="text.mkv", fps=1, size=32))
    # An mp4 file with its index at the end.
    with pytest.raises(VideoError, match="write mkv, webm or ts"):
        list(stream_frames([data[: len(data) // 2]], name="half.mp4", fps=1, size=32))
