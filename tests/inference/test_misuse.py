"""Tests wrong arguments, interruptions, threads, and files that change after they were encoded."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.test_selecting import QUESTIONS, SELECTION, encode, noise
from tests.write_video import write_video
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.session import Session
from xcomp_jax.video.errors import VideoError


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    session = demo_session(selection=SELECTION)
    session.generation = dataclasses.replace(session.generation, max_new_tokens=8)
    return session


def test_ask_wrong_arguments_raise_before_work(session: Session) -> None:
    video, source = encode(session, 8)
    num_read = source.num_read
    long = "word " * 9000
    cases: list[tuple[type[Exception], str, Any, Any, dict[str, Any]]] = [
        (TypeError, "the video is of type str; pass the result of", "film.mp4", "What?", {}),
        (TypeError, "the question is of type int; pass a str", video, 5, {}),
        (ValueError, "the question is empty", video, " \n", {}),
        (ValueError, r"'\\ud800' at position 1, which is not valid Unicode", video, "a\ud800", {}),
        (ValueError, r"tokens, more than the limit of 8,192", video, long, {}),
        (ValueError, "seed=-1 must be an integer from 0 to 4294967295", video, "a", {"seed": -1}),
        (ValueError, "must be an integer from 0", video, "a", {"seed": 1 << 32}),
        (ValueError, "encoded by another session", encode(demo_session())[0], "What?", {}),
    ]
    for kind, message, target, question, options in cases:
        with pytest.raises(kind, match=message):
            session.ask(target, question, **options)
        with pytest.raises(kind, match=message):
            session.chat(target).ask(question, **options)
    with pytest.raises(TypeError, match="questions is a str; pass a list"):
        session.ask_all(video, "What?")
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        session.ask_all(video, ["What?"], batch_size=0)
    assert session.ask_all(video, []) == []
    assert source.num_read == num_read
    assert video.cache is None


def test_ask_after_interrupted_ask_all_is_equal(session: Session) -> None:
    expected = session.ask_all(encode(session)[0], QUESTIONS)
    video, _ = encode(session)

    def interrupt(unit: str, done: int, total: int) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.ask_all(video, QUESTIONS, progress=interrupt)
    for answer, other in zip(session.ask_all(video, QUESTIONS), expected, strict=True):
        assert answer.token_ids == other.token_ids
        np.testing.assert_array_equal(answer.scores, other.scores)


def test_chat_interrupted_turn_leaves_no_trace(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, _ = encode(session)
    undisturbed, chat = session.chat(video), session.chat(video)
    expected = [undisturbed.ask(QUESTIONS[1]), undisturbed.ask(QUESTIONS[0])]
    generate = session.engine.generate

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    for question, answer in zip(QUESTIONS[::-1], expected, strict=True):
        monkeypatch.setattr(session.engine, "generate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            chat.ask("Which color is the circle?")
        monkeypatch.setattr(session.engine, "generate", generate)
        found = chat.ask(question)
        assert found.token_ids == answer.token_ids
        assert found.selected_frames == answer.selected_frames
    assert chat.history == undisturbed.history


def test_ask_from_two_threads_is_equal(session: Session) -> None:
    expected = [session.ask(encode(session)[0], question) for question in QUESTIONS]
    video, _ = encode(session)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda question: session.ask(video, question), QUESTIONS * 2))
    for answer, other in zip(answers, expected * 2, strict=True):
        assert answer.token_ids == other.token_ids
        np.testing.assert_array_equal(answer.scores, other.scores)


def test_video_changed_after_encoding_raises(session: Session, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", noise(16, 32), fps=8)
    video = session.encode_video(path, num_frames=16)
    tokens = video.visual_tokens((1, 2, 3, 4))
    data = path.read_bytes()
    write_video(path, noise(24, 32)[8:], fps=8)
    with pytest.raises(VideoError, match=r"clip\.mkv: the file was changed, moved or deleted"):
        video.visual_tokens((2, 3, 4, 5))
    path.unlink()
    with pytest.raises(VideoError, match="Encode it again"):
        video.visual_tokens((2, 3, 4, 5))
    # Clips that are cached need no file; control: the same file, encoded again, is read.
    assert video.visual_tokens((0, 1, 2, 3)).shape == tokens.shape
    path.write_bytes(data)
    again = session.encode_video(path, num_frames=16)
    np.testing.assert_array_equal(again.visual_tokens((1, 2, 3, 4)), tokens)
