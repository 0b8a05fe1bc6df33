"""Answers questions about encoded videos in batches that share prefill and decoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xcomp_jax.account import open_account
from xcomp_jax.engine.compilation import COMPILATIONS
from xcomp_jax.engine.decode_state import DecodeState
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.answerer import Answerer, Frames
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.request import check_seed, question_list
from xcomp_jax.inference.selecting import Progress, select_frames


def answer_batches(
    answerer: Answerer,
    videos: Sequence[EncodedVideo],
    questions: Sequence[str],
    *,
    batch_size: int,
    seed: int,
    progress: Progress | None,
) -> list[Answer]:
    """Answers one question about each video; see `Session.ask_batch`."""
    questions = question_list(questions)
    if len(videos) != len(questions):
        raise ValueError(
            f"got {len(videos)} videos and {len(questions)} questions; pass one question per video"
        )
    check_seed(seed)
    if batch_size < 1:
        raise ValueError(f"{batch_size=} must be at least 1")
    suffixes = [answerer.text_after(v, q) for v, q in zip(videos, questions, strict=True)]
    answers: list[Answer] = []
    with open_account() as account:
        compiled = COMPILATIONS.count
        scores = answerer.score_questions(videos, suffixes, progress)
        for first in range(0, len(questions), batch_size):
            batch = range(first, min(first + batch_size, len(questions)))
            selected = [select_frames(videos[i], scores[i]) for i in batch]
            state = _prefill(
                answerer, [videos[i] for i in batch], selected, [suffixes[i] for i in batch]
            )
            generated = answerer.engine.generate(state, answerer.generation, seed=seed)
            for row, i in enumerate(batch):
                token_ids = np.asarray(generated.ids[row, : generated.count[row]])
                answers.append(
                    answerer.make_answer(
                        videos[i],
                        questions[i],
                        token_ids,
                        selected[row],
                        scores[i],
                        account,
                        COMPILATIONS.count - compiled,
                    )
                )
                compiled = COMPILATIONS.count
    return answers


def _prefill(
    answerer: Answerer,
    videos: Sequence[EncodedVideo],
    frames: Sequence[Frames],
    suffixes: Sequence[Sequence[int]],
) -> DecodeState:
    """Prefills each video's selected frames and the text around them, as one batch."""
    engine = answerer.engine
    prefixes = [video.prefix_ids for video in videos]
    if engine.caches_video and len(videos) == 1:
        cache = answerer.cache_of(videos[0], frames[0])
    else:
        visual = [v.visual_tokens(f) for v, f in zip(videos, frames, strict=True)]
        if not engine.caches_video:
            return engine.prefill(visual, prefixes, suffixes)
        cache = engine.prefill_video(visual, prefixes)
    return engine.extend(cache, suffixes, max_new_tokens=answerer.generation.max_new_tokens)
