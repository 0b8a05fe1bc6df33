"""Choosing frames by the question: equal to the definition, and nothing done twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from xcomp_jax.config import ConfigError, SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.open_session import embedded_session
from xcomp_jax.inference.session import Session
from xcomp_jax.selection.plan import best_frames, scores_of_frames
from xcomp_jax.selection.reference import naive_scores
from xcomp_jax.selection.scoring import Query
from xcomp_jax.text.prompts import ChatIds
from xcomp_jax.video.sampling import FramePlan

# Windows of 64 + 32 frames over 104: one wraps around, and the shift cuts other clips.
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
    """Counts the frames that are taken."""

    taken = 0

    def frames(self, places: Sequence[int]) -> Iterator[np.ndarray]:
        for frame in super().frames(places):
            self.taken += 1
            yield frame


def noise(count: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return small.repeat(size // 4, 1).repeat(size // 4, 2)


def watch(session: Session, count: int = COUNT) -> tuple[EncodedVideo, CountedFrames]:
    source = CountedFrames(noise(count, session.config.vision.image_size))
    plan = FramePlan(tuple(range(count)), count / 2, count, tuple(i / 2 for i in range(count)))
    return session.encode_frames(source, plan, name="noise"), source


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    return embedded_session(selection=SELECTION)


def test_scores_are_those_of_the_definition(session: Session) -> None:
    memory, source = watch(session)
    assert memory.windows is not None
    assert memory.select == SELECTION.select
    chat = ChatIds.of(session.tokenizer)
    texts = [session.text_around(memory, question) for question in QUESTIONS]
    found = session.score(memory, texts, Stopwatch())
    wanted = []
    for prefix, suffix in texts:
        query = Query.of(suffix, chat.start, chat.assistant)
        reader, windows = session.reader, memory.windows
        wanted.append(
            naive_scores(reader, SELECTION, windows, source.pixels, prefix, suffix, query.header)
        )
    counted = [scores_of_frames(scores, memory.windows).total for scores in wanted]
    for scores, want, other in zip(found, counted, counted[::-1], strict=True):
        assert scores is not None
        np.testing.assert_allclose(scores.total, want, rtol=2e-5)
        assert np.abs(scores.total / other - 1).max() > 1e-3, "control: the other question"
        selected_frames = session.choose(memory, scores)
        assert selected_frames == best_frames(want, 24)


def test_a_second_question_reads_only_text(session: Session) -> None:
    memory, source = watch(session)
    assert memory.windows is not None
    first = session.ask(memory, QUESTIONS[0])
    taken = source.taken
    second = session.ask(memory, QUESTIONS[1])
    assert first.work["windows watched"] == len(memory.windows.starts) == 8
    assert second.work.get("windows watched", 0) == 0
    assert second.work["windows scored"] == 8
    assert second.selected_frames is not None
    assert len(second.selected_frames) == 24
    # Only clips of chosen frames that were never cut like this are decoded and encoded.
    clip = session.config.vision.clip_frames
    cut = [second.selected_frames[i : i + clip] for i in range(0, 24, clip)]
    starts = {start for window in range(8) for start in memory.windows.clip_starts(window, clip)}
    new = [c for c in cut if c != memory.clips.clip_at(c[0]) or c[0] not in starts]
    assert second.work.get("clips encoded", 0) == len(new)
    assert source.taken - taken == clip * len(new)
    # The same question once more: the whole answer is the same.
    again = session.ask(memory, QUESTIONS[0])
    assert again.token_ids == first.token_ids
    np.testing.assert_array_equal(again.scores, first.scores)
    assert again.selected_frames == first.selected_frames


def test_together_as_one_by_one(session: Session) -> None:
    memory, _ = watch(session)
    together = session.ask_all(memory, QUESTIONS)
    for question, answer in zip(QUESTIONS, together, strict=True):
        alone = session.ask(watch(session)[0], question)
        assert alone.selected_frames == answer.selected_frames
        assert alone.token_ids == answer.token_ids
    assert (together[0].scores != together[1].scores).any(), "the questions must differ"


def test_clip_granularity_encodes_nothing_twice() -> None:
    clips = SelectionConfig(**{**SELECTION.__dict__, "granularity": "clip", "select": 24})
    session = embedded_session(selection=clips)
    memory, source = watch(session)
    assert source.taken == COUNT, "every frame is decoded once, in one clip"
    answer = session.ask(memory, QUESTIONS[0])
    assert answer.work.get("clips encoded", 0) == 0
    assert source.taken == COUNT
    assert answer.selected_frames is not None
    clip = session.config.vision.clip_frames
    assert all(
        answer.selected_frames[i : i + clip] == memory.clips.clip_at(answer.selected_frames[i])
        for i in range(0, 24, clip)
    )


def test_states_beyond_the_bound_are_computed_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = session.ask(watch(session)[0], QUESTIONS[0])
    monkeypatch.setattr("xcomp_jax.inference.selector.STATE_BYTES", 0)
    memory, _ = watch(session)
    first, second = (session.ask(memory, QUESTIONS[0]) for _ in range(2))
    assert memory.states == {}
    assert second.work["windows watched"] == 8
    assert first.selected_frames == second.selected_frames == kept.selected_frames


def test_what_cannot_be_selected_is_refused_before_any_work() -> None:
    for change, message in (
        ({"select": 23}, "must be a multiple of the encoder's clips of 4"),
        ({"layers": (0, 99)}, "beyond the model's 4 layers"),
        ({"segment_clips": 40, "segment_stride": 20}, "at least 320 frames, this one has 104"),
    ):
        session = embedded_session(selection=SelectionConfig(**{**SELECTION.__dict__, **change}))
        with pytest.raises(ConfigError, match=message):
            watch(session)


def test_short_videos_are_kept_whole() -> None:
    session = embedded_session()
    memory, _ = watch(session)
    assert memory.windows is None
    assert session.ask(memory, QUESTIONS[0]).selected_frames is None
