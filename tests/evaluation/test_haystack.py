"""Tests of needles among the stored tokens of a haystack."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import TINY, tiny_params
from xcomp_jax.account import open_account
from xcomp_jax.config import ProtocolConfig, SamplingConfig, SelectionConfig
from xcomp_jax.engine.clips import MemoryClipCache
from xcomp_jax.evaluation.answers import read_answers
from xcomp_jax.evaluation.check import fitting
from xcomp_jax.evaluation.errors import DataError
from xcomp_jax.evaluation.haystack import run as haystack_run
from xcomp_jax.evaluation.haystack.ask import NeedleAnswer, ask, needle_video, share_windows
from xcomp_jax.evaluation.haystack.encode import NeedleEncoder, distinct_frames, encode_haystack
from xcomp_jax.evaluation.haystack.heat_map import heat_map
from xcomp_jax.evaluation.haystack.tokens import HaystackTokens, InsertedNeedle, NeedleFrames
from xcomp_jax.evaluation.run_folder import rows_of
from xcomp_jax.evaluation.runner import Evaluation
from xcomp_jax.evaluation.synthetic_niah import write_synthetic_niah
from xcomp_jax.evaluation.tasks import TASKS
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.token_store import TokenStore, hash_video
from xcomp_jax.video.probe import probe

LENGTHS, DEPTHS, QUESTIONS = (8, 16), (0.0, 0.4, 1.0), 3
PER_FRAME, WIDTH = 3, 2


def numbered_haystack(encoded: int) -> HaystackTokens:
    """Returns a haystack whose token values are the number of their frame."""
    cache = MemoryClipCache()
    frames = np.arange(encoded, dtype=np.float32)
    tokens = np.broadcast_to(frames[:, None, None], (encoded, PER_FRAME, WIDTH))
    cache.write({s: tokens[s : s + 4].reshape(-1, WIDTH) for s in range(0, encoded, 4)})
    return HaystackTokens(cache, encoded, clip_frames=4)


def test_needle_frames_equal_inserted_tokens() -> None:
    # 1,104 frames of 552 encoded ones: more clips than are read at a time, and doubled.
    haystack, length = numbered_haystack(1104), 1500
    needles = [
        InsertedNeedle(frame, np.full((4, PER_FRAME, WIDTH), value, np.float32))
        for frame, value in ((0, -1), (700, -2), (700, -3), (1500, -4))
    ]
    frames = NeedleFrames(haystack, needles, length)
    expected = np.arange(length) % 1104
    for needle in reversed(needles):
        values = needle.tokens[:, 0, 0].astype(int)
        expected = np.concatenate([expected[: needle.frame], values, expected[needle.frame :]])
    assert len(frames) == length + 16
    order = np.random.default_rng(0).permutation(len(frames)).tolist()
    read = frames.read(order)
    found = np.stack([read[i] for i in range(len(frames))])
    assert found.shape == (len(expected), PER_FRAME, WIDTH)
    assert np.array_equal(found[:, 0, 0], expected)
    assert np.array_equal(found.min(axis=(1, 2)), found.max(axis=(1, 2))), "whole frames"
    assert [found[list(span), 0, 0].tolist() for span in frames.needle_frames] == [
        [value] * 4 for value in (-1, -2, -3, -4)
    ]


def test_distinct_frames_follow_the_published_rule() -> None:
    assert distinct_frames(10_000, 4) == 5000
    assert distinct_frames(7500, 4) == 7500
    assert distinct_frames(1001, 8) == 1008


@pytest.fixture(name="session", scope="module")
def session_fixture() -> Session:
    return tiny_session(None)


def tiny_session(store: TokenStore | None) -> Session:
    sampling = SamplingConfig(fps=1, min_frames=4, max_frames=max(LENGTHS))
    return Session(TINY, tiny_params(TINY), load_tokenizer(None), sampling=sampling, store=store)


@pytest.fixture(name="data", scope="module")
def data_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("niah")
    grid = (LENGTHS, DEPTHS)
    write_synthetic_niah(folder, frames=18, size=32, questions=QUESTIONS, chains=2, grid=grid)
    return folder


def evaluation(data: Path, folder: Path, session: Session) -> Evaluation:
    return Evaluation(
        task=TASKS["niah_single"],
        questions=TASKS["niah_single"].load(data),
        data=data,
        protocol=ProtocolConfig(benchmark="niah_single", system="tiny", time_message=False),
        session=session,
        checkpoint_hash="tiny",
        folder=folder,
        hash_video=hash_video,
    )


def first_half_model(
    seen: list[str], session: Session, video: EncodedVideo, question: str, gold: str, **_: Any
) -> NeedleAnswer:
    """Answers right exactly if the needle's tokens lie in the first half of the sequence."""
    seen.append(video.name)
    tokens = video.visual_tokens(None).reshape(video.num_frames, -1)
    # All four frames of a needle are one picture, encoded as one clip; no haystack clip has its
    # tokens.
    needles = [session.needle_tokens[i].reshape(4, -1) for i in range(QUESTIONS)]  # type: ignore[attr-defined]
    half = tokens[: len(tokens) // 2]
    right = any(
        np.array_equal(half[i : i + 4], needle) for needle in needles for i in range(len(half) - 3)
    )
    return NeedleAnswer(gold if right else "?", None)


def cells(data: Path, folder: Path) -> dict[tuple[str, str], float]:
    task = TASKS["niah_single"]
    answered = read_answers(task, task.load(data), rows_of(folder).values())
    scores: dict[tuple[str, str], list[float]] = {}
    for entry in answered:
        key = (entry.question.categories["frames"][0], entry.question.categories["depth"][0])
        scores.setdefault(key, []).append(entry.readings["reference"].score)
    png = heat_map(answered, "depth", "reference", "cells")
    assert png[:4] == b"\x89PNG"
    return {key: float(np.mean(values)) for key, values in scores.items()}


def test_run_needles_resumes_with_known_cells_and_one_encoding(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TokenStore(tmp_path / "tokens")
    session = tiny_session(store)
    encoder = NeedleEncoder(session, data)
    session.needle_tokens = [encoder.tokens(f"single/{i}.png") for i in range(QUESTIONS)]  # type: ignore[attr-defined]
    seen: list[str] = []
    model = functools.partial(first_half_model, seen)

    def interrupted(*arguments: Any, **options: Any) -> NeedleAnswer:
        if len(seen) == 5:
            raise KeyboardInterrupt
        return model(*arguments, **options)

    monkeypatch.setattr(haystack_run, "ask", interrupted)
    run = evaluation(data, tmp_path / "run", session)
    run.folder.mkdir()
    with open_account() as account, pytest.raises(KeyboardInterrupt):
        haystack_run.run_needles(run, progress=False)
    # 16 frames in 4 clips; two cells and a third one's needle.
    assert account.work["clips encoded"] <= 4 + QUESTIONS
    monkeypatch.setattr(haystack_run, "ask", model)
    with open_account() as account:
        haystack_run.run_needles(run, progress=False)
    assert account.work["clips encoded"] == QUESTIONS, "the haystack comes from the store"
    total = len(LENGTHS) * len(DEPTHS) * QUESTIONS
    assert len(seen) == total, "no question is asked twice"
    found = cells(data, tmp_path / "run")
    assert found == {
        (str(length), f"{100 * depth:.0f} %"): float(int(depth * length) + 4 <= (length + 4) // 2)
        for length in LENGTHS
        for depth in DEPTHS
    }
    assert set(found.values()) == {0.0, 1.0}
    seen.clear()
    haystack_run.run_needles(run, progress=False)
    assert seen == []


def test_answer_equals_prefill_of_the_whole_sequence(data: Path, session: Session) -> None:
    """Compares the answer with one pass over tokens that are put together here."""
    haystack = encode_haystack(
        session, probe(data / "haystack_videos/video_haystack.mp4"), frames=16
    )
    needle = NeedleEncoder(session, data).tokens("single/0.png")
    hay = haystack.tokens.frames(range(16))
    question = "what color is the shape"
    ids: dict[int, list[int]] = {}
    for frame in (4, 12):
        frames = NeedleFrames(haystack.tokens, [InsertedNeedle(frame, needle)], 16)
        answer = ask(
            session, needle_video(session, frames, "x"), question, "A A A", time_message=False
        )
        whole = np.concatenate([hay[:frame], needle, hay[frame:]]).reshape(-1, hay.shape[-1])
        text = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
            f"{question}<|im_end|>\n<|im_start|>assistant\n",
        )
        prefix, suffix = (session.tokenizer.encode(part) for part in text)
        cache = session.engine.prefill_video([whole], [prefix])
        state = session.engine.extend(cache, [suffix], max_new_tokens=3)
        generation = dataclasses.replace(session.generation, max_new_tokens=3)
        generated = session.engine.generate(state, generation)
        ids[frame] = generated.ids[0, : generated.count[0]].tolist()
        assert answer.text == session.tokenizer.decode(ids[frame], skip_special_tokens=True)
    assert ids[4] != ids[12], "control: the place of the needle matters"


def test_missing_needle_and_short_haystack_are_named(data: Path, session: Session) -> None:
    with pytest.raises(DataError, match=r"needle image nowhere.png is missing"):
        NeedleEncoder(session, data).tokens("nowhere.png")
    info = probe(data / "haystack_videos/video_haystack.mp4")
    longer = tiny_session(None)
    longer.sampling = SamplingConfig(fps=1, min_frames=4, max_frames=400)
    with pytest.raises(DataError, match=r"has 18 frames at 1 per second.*needs 400.*--frames 16"):
        encode_haystack(longer, info, frames=400)
    questions = TASKS["niah_single"].load(data)
    assert {q.haystack_frames for q in fitting(questions, 10)} == {8}
    with pytest.raises(DataError, match="shortest haystack has 8 frames"):
        fitting(questions, 4)


@pytest.mark.slow
def test_shared_windows_change_no_answer(data: Path) -> None:
    selection = SelectionConfig(
        select=4, min_frames=0, repeats=1, segment_clips=1, segment_stride=1, window_frames=16
    )
    session = tiny_session(None)
    session.selection = selection
    length = 16 * 40
    haystack = random_tokens(length)
    encoder = NeedleEncoder(session, data)
    answers: dict[bool, list[NeedleAnswer]] = {}
    work: dict[bool, int] = {}
    for shared in (True, False):
        last = None
        answers[shared] = []
        with open_account() as account:
            for image in ("single/0.png", "single/1.png"):
                inserted = [InsertedNeedle(320, encoder.tokens(image))]
                frames = NeedleFrames(haystack, inserted, length)
                video = needle_video(session, frames, image)
                if shared and last is not None:
                    share_windows(session, last, video, frames.needle_frames)
                answers[shared].append(ask(session, video, "what color", "A", time_message=False))
                last = video
        work[shared] = account.work["windows prefilled"]
    assert answers[True] == answers[False]
    assert answers[True][0].selected_frames is not None
    assert work[True] < 0.7 * work[False]


def random_tokens(encoded: int) -> HaystackTokens:
    """Returns a haystack of random tokens of the model's shape."""
    tokens = np.random.default_rng(0).normal(
        size=(encoded, TINY.projector.tokens_per_frame, TINY.llm.hidden_size)
    )
    cache, size = MemoryClipCache(), TINY.vision.clip_frames
    flat = tokens.astype(np.float32)
    cache.write(
        {s: flat[s : s + size].reshape(-1, flat.shape[-1]) for s in range(0, encoded, size)}
    )
    return HaystackTokens(cache, encoded, size)
