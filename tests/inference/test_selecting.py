"""Tests that frame selection equals its reference definition and reuses its caches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.session import Session
from xcomp_jax.selection.frame_scores import best_frames, scores_of_frames
from xcomp_jax.selection.query import Query
from xcomp_jax.selection.reference import reference_scores
from xcomp_jax.text.prompts import ChatIds
from xcomp_jax.video.sampling import FramePlan

# Windows of 64 + 32 frames over 104: some wrap around, and shifts cut new clips.
SELECTION = SelectionConfig(
    select=24,
    min_frames=0,
    repeats=4,
    window_frames=64,
    segment_clips=4,
    segment_stride=2,
    query_bias=5,
)
COUNT = 104
QUESTIONS = ("What color is the moving shape?", "When does the flash appear?")


class CountedFrames(ArrayFrames):
    """Counts the frames that are read."""

    num_read = 0

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        for frame in super().frames(indices):
            self.num_read += 1
            yield frame


def noise(count: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return small.repeat(size // 4, 1).repeat(size // 4, 2)


def encode(session: Session, count: int = COUNT) -> tuple[EncodedVideo, CountedFrames]:
    source = CountedFrames(noise(count, session.config.vision.image_size))
    plan = FramePlan(tuple(range(count)), count / 2, count, tuple(i / 2 for i in range(count)))
    return session.encode_frames(source, plan, name="noise"), source


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    return demo_session(selection=SELECTION)


def test_score_frames_equals_reference(session: Session) -> None:
    video, source = encode(session)
    assert video.windows is not None
    assert video.num_selected == SELECTION.select
    chat, engine = ChatIds.of(session.tokenizer), session.engine
    expected = []
    for question in QUESTIONS:
        suffix = session.text_after(video, question)
        scores = reference_scores(
            engine.model,
            engine.params,
            engine.layer_groups,
            SELECTION,
            video.windows,
            source.pixels,
            video.prefix_ids,
            Query.of(
                suffix,
                query_bias=SELECTION.query_bias,
                text_start=0,
                header_ids=(chat.start, chat.assistant),
            ),
            encode=engine.encoder.encode,
        )
        expected.append(scores_of_frames(scores, video.windows).total)
    for question, reference, other in zip(QUESTIONS, expected, expected[::-1], strict=True):
        scores = session.score_frames(video, question)
        assert scores is not None
        np.testing.assert_allclose(scores.total, reference, rtol=2e-5)
        assert np.abs(scores.total / other - 1).max() > 1e-3, "control: the other question"
        assert session.select_frames(video, question) == best_frames(reference, 24)


def test_ask_second_question_reuses_windows(session: Session) -> None:
    video, source = encode(session)
    assert video.windows is not None
    first = session.ask(video, QUESTIONS[0])
    num_read = source.num_read
    second = session.ask(video, QUESTIONS[1])
    assert first.work["windows prefilled"] == len(video.windows.starts) == 8
    assert second.work.get("windows prefilled", 0) == 0
    assert second.work["windows scored"] == 8
    assert second.selected_frames is not None
    assert len(second.selected_frames) == 24
    # Only newly cut clips of selected frames are decoded and encoded.
    clip = session.config.vision.clip_frames
    cut = [second.selected_frames[i : i + clip] for i in range(0, 24, clip)]
    starts = {start for window in range(8) for start in video.windows.clip_starts(window, clip)}
    new = [c for c in cut if c != video.clips.clip_at(c[0]) or c[0] not in starts]
    assert second.work.get("clips encoded", 0) == len(new)
    assert source.num_read - num_read == clip * len(new)
    # A repeated question gives the same answer.
    again = session.ask(video, QUESTIONS[0])
    assert again.token_ids == first.token_ids
    np.testing.assert_array_equal(again.scores, first.scores)
    assert again.selected_frames == first.selected_frames


def test_ask_all_equals_single_questions(session: Session) -> None:
    video, _ = encode(session)
    together = session.ask_all(video, QUESTIONS)
    for question, answer in zip(QUESTIONS, together, strict=True):
        alone = session.ask(encode(session)[0], question)
        assert alone.selected_frames == answer.selected_frames
        assert alone.token_ids == answer.token_ids
    assert (together[0].scores != together[1].scores).any(), "the questions must differ"


def test_clip_granularity_encodes_each_clip_once() -> None:
    clips = SelectionConfig(**{**SELECTION.__dict__, "granularity": "clip", "select": 24})
    session = demo_session(selection=clips)
    video, source = encode(session)
    assert source.num_read == COUNT, "every frame is decoded once, in one clip"
    answer = session.ask(video, QUESTIONS[0])
    assert answer.work.get("clips encoded", 0) == 0
    assert source.num_read == COUNT
    assert answer.selected_frames is not None
    clip = session.config.vision.clip_frames
    assert all(
        answer.selected_frames[i : i + clip] == video.clips.clip_at(answer.selected_frames[i])
        for i in range(0, 24, clip)
    )


def test_window_caches_over_limit_are_prefilled_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = session.ask(encode(session)[0], QUESTIONS[0])
    monkeypatch.setattr("xcomp_jax.inference.selecting.WINDOW_CACHE_BYTES", 0)
    video, _ = encode(session)
    first, second = (session.ask(video, QUESTIONS[0]) for _ in range(2))
    assert video.window_caches == {}
    assert second.work["windows prefilled"] == 8
    assert first.selected_frames == second.selected_frames == cached.selected_frames


def test_encode_invalid_selection_raises() -> None:
    for change, message in (
        (
            {"select": 23},
            r"select=23 is not a multiple of 4, the encoder's.*; use 20 or 24",
        ),
        ({"layers": (0, 99)}, "beyond the model's 4 layers"),
        (
            {"segment_clips": 40, "segment_stride": 20},
            "320 frames, this video has 104; use 320 frames",
        ),
    ):
        session = demo_session(selection=SelectionConfig(**{**SELECTION.__dict__, **change}))
        with pytest.raises(ConfigError, match=message):
            encode(session)


@pytest.mark.parametrize("count", [64, 72, 96])
def test_short_question_is_scored(count: int) -> None:
    """Uses the published settings, whose query bias leaves no row of such a question."""
    session = demo_session(selection=SelectionConfig(select=16, min_frames=0))
    session.generation = dataclasses.replace(session.generation, max_new_tokens=1)
    video, _ = encode(session, count)
    scores = [session.score_frames(video, text) for text in ("?", "When?")]
    first, second = (score.total for score in scores if score is not None)
    assert np.isfinite(first).all()
    assert (first != second).any(), "the question counts, not only the time message"
    assert len(session.ask(video, "When?").selected_frames or ()) == 16


def test_query_bias_leaves_row_is_used_as_published() -> None:
    rows = {"text_start": 3, "header_ids": (8, 9)}
    assert Query.of([1, 2, 3, 4, 5, 8, 9], query_bias=4, **rows).question_start == 4
    assert Query.of([1, 2, 3, 4, 5, 8, 9], query_bias=5, **rows).question_start == 3


def test_short_video_uses_all_frames() -> None:
    session = demo_session()
    video, _ = encode(session)
    assert video.windows is None
    assert session.ask(video, QUESTIONS[0]).selected_frames is None
