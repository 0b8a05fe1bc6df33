"""Time question-conditioned selection against its definition, in one run on this machine."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence

import numpy as np

from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import ArrayFrames
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.session import Session
from xcomp_jax.selection.frame_scores import best_frames, scores_of_frames
from xcomp_jax.selection.query import Query
from xcomp_jax.selection.reference import reference_scores
from xcomp_jax.text.prompts import ChatIds
from xcomp_jax.video.sampling import FramePlan

RUNS = 3
QUESTION = "Question: which color flashes at second {}? Answer red, green, blue or yellow."


def measure(session: Session, num_frames: int, counts: Sequence[int]) -> list[tuple[float, float]]:
    """Returns the seconds of the definition and of the session, per number of questions.

    Raises:
        RuntimeError: they do not select the same frames.
    """
    size = session.config.vision.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (num_frames, size, size, 3), np.uint8)
    times = tuple(float(i) for i in range(num_frames))
    plan = FramePlan(tuple(range(num_frames)), float(num_frames), num_frames, times)
    chat = ChatIds.of(session.tokenizer)

    def fast(questions: int) -> list[np.ndarray]:
        video = session.encode_frames(ArrayFrames(pixels), plan, name="noise")
        suffixes = [session.text_after(video, QUESTION.format(i)) for i in range(questions)]
        scores = session.score_questions([video] * questions, suffixes)
        return [frame_scores.total for frame_scores in scores if frame_scores is not None]

    video = session.encode_frames(ArrayFrames(pixels), plan, name="noise")
    windows, config, engine = video.windows, session.selection, session.engine
    assert windows is not None
    assert config is not None
    suffix = session.text_after(video, QUESTION.format(0))
    query = Query.of(
        suffix,
        query_bias=config.query_bias,
        text_start=0,
        header_ids=(chat.start, chat.assistant),
    )

    def definition() -> np.ndarray:
        scores = reference_scores(
            engine.model,
            engine.params,
            engine.layer_groups,
            config,
            windows,
            pixels,
            video.prefix_ids,
            query,
            encode=engine.encoder.encode,
        )
        return scores_of_frames(scores, windows).total

    first, second = definition(), fast(1)[0]
    select = video.num_selected or num_frames
    same = len(set(best_frames(first, select)) & set(best_frames(second, select)))
    if same != select:
        raise RuntimeError(f"only {same} of {select} selected frames are the same")
    naive = least_seconds(definition)
    return [(naive * count, least_seconds(functools.partial(fast, count))) for count in counts]


def least_seconds(work: Callable[[], object]) -> float:
    """Times a few runs and returns the shortest, since other load only makes a run longer."""
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def run(options: argparse.Namespace) -> int:
    """Prints a Markdown table."""
    repeats = options.repeats or SelectionConfig.repeats
    session = demo_session(selection=SelectionConfig(select=256, min_frames=0, repeats=repeats))
    print("| frames | questions | definition | session | ratio |")
    print("|---|---|---|---|---|")
    for num_frames in options.frames:
        measured = measure(session, num_frames, options.questions)
        for count, (naive, seconds) in zip(options.questions, measured, strict=True):
            print(
                f"| {num_frames:,} | {count} | {naive:.1f} s | {seconds:.1f} s "
                f"| {naive / seconds:.1f} x |",
                flush=True,
            )
    return 0
