"""Builds prompts, scores, caches and answers, for single questions and conversations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from xcomp_jax.account import Account
from xcomp_jax.config import ConfigError
from xcomp_jax.engine.engine import Engine
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.request import check_length, check_question, check_video
from xcomp_jax.inference.selecting import Progress, score_frames, select_frames
from xcomp_jax.models.decoder_state import LayerGroupCache
from xcomp_jax.selection.frame_scores import FrameScores
from xcomp_jax.selection.query import Query
from xcomp_jax.text.prompts import (
    ChatIds,
    answer_text,
    encode_text,
    inference_ids,
    question_parts,
    split_at_video,
)

Frames = tuple[int, ...] | None
"""Selected frames as indices into the sampled frames; None for all."""


class Answerer:
    """Combines an engine with the tokenizer and generation settings of its model.

    Args:
        generation: settings of token generation; end tokens default to the tokenizer's
            `<|im_end|>`.

    Raises:
        ConfigError: the tokenizer has more tokens than the model has embeddings.
    """

    def __init__(
        self, engine: Engine, tokenizer: Any, generation: GenerationConfig | None = None
    ) -> None:
        vocab_size = engine.config.llm.vocab_size
        if len(tokenizer) > vocab_size:
            raise ConfigError(
                f"the tokenizer has {len(tokenizer)} tokens, the model has embeddings for "
                f"{vocab_size}; use the tokenizer that the model was trained with"
            )
        generation = generation or GenerationConfig()
        if not generation.eos_token_ids:
            end = tokenizer.convert_tokens_to_ids("<|im_end|>")
            generation = dataclasses.replace(generation, eos_token_ids=(end,))
        self.engine = engine
        self.tokenizer = tokenizer
        self.generation = generation

    def score_frames(
        self, video: EncodedVideo, question: str, *, progress: Progress | None = None
    ) -> FrameScores | None:
        """Scores every sampled frame for a question; returns None if all frames are used.

        Raises:
            TypeError, ValueError: as `check_question`.
        """
        return self.score_questions([video], [self.text_after(video, question)], progress)[0]

    def select_frames(
        self, video: EncodedVideo, question: str, *, progress: Progress | None = None
    ) -> Frames:
        """Returns the selected frames of a question, None for all."""
        return select_frames(video, self.score_frames(video, question, progress=progress))

    def text_after(
        self, video: EncodedVideo, question: str, history: Sequence[tuple[str, str]] = ()
    ) -> list[int]:
        """Returns the token ids after the video; `history` holds (question, answer) pairs.

        Raises:
            TypeError, ValueError: as `check_question`.
        """
        check_video(video, self.engine.encoder)
        return self._text_after(question, video.plan.message, history)

    def check_question(self, question: str) -> None:
        """Checks a question; it is text, and special tokens written in it have no effect.

        Raises:
            TypeError: it is not a str.
            ValueError: it is empty, not valid Unicode, or longer than `generation.max_text_tokens`.
        """
        self._text_after(question, "")

    def _text_after(
        self, question: str, time_message: str, history: Sequence[tuple[str, str]] = ()
    ) -> list[int]:
        check_question(question)
        ids = inference_ids(self.tokenizer, question, time_message, history)
        after = split_at_video(ids)[1]
        check_length(after, self.generation.max_text_tokens)
        return after

    def cache_of(self, video: EncodedVideo, frames: Frames) -> tuple[LayerGroupCache, ...]:
        """Returns the KV cache of the selected frames; `video` keeps the cache of all frames."""
        if frames is None and video.cache is not None:
            return video.cache
        cache = self.engine.prefill_video([video.visual_tokens(frames)], [video.prefix_ids])
        if frames is None:
            video.cache = cache
        return cache

    def make_answer(
        self,
        video: EncodedVideo,
        question: str,
        token_ids: np.ndarray,
        frames: Frames,
        scores: FrameScores | None,
        account: Account,
        compilations: int,
    ) -> Answer:
        """Builds an answer from its tokens, and moves its costs out of `account`."""
        costs = account.take()
        return Answer(
            question=question,
            text=answer_text(self.tokenizer.decode(token_ids, skip_special_tokens=True)),
            token_ids=tuple(int(token) for token in token_ids),
            num_frames=video.num_frames,
            duration=video.plan.duration,
            selected_frames=frames,
            scores=None if scores is None else scores.total,
            seconds=costs.seconds,
            wall_seconds=costs.wall_seconds,
            work=costs.work,
            compilations=compilations,
        )

    def score_questions(
        self,
        videos: Sequence[EncodedVideo],
        suffixes: Sequence[Sequence[int]],
        progress: Progress | None = None,
    ) -> list[FrameScores | None]:
        """Scores frames for each question; prefills the windows of each distinct video once."""
        chat = ChatIds.of(self.tokenizer)
        scores: list[FrameScores | None] = [None] * len(videos)
        by_video: dict[int, list[int]] = {}
        for i, video in enumerate(videos):
            if video.windows is not None:
                by_video.setdefault(id(video), []).append(i)
        for indices in by_video.values():
            selection = videos[indices[0]].selection
            assert selection is not None
            message = question_parts("", videos[indices[0]].plan.message)[-1]
            message_ids = encode_text(self.tokenizer, message)
            queries = [
                Query.of(
                    suffixes[i],
                    query_bias=selection.query_bias,
                    text_start=common_prefix(message_ids, suffixes[i]),
                    header_ids=(chat.start, chat.assistant),
                )
                for i in indices
            ]
            results = score_frames(self.engine, videos[indices[0]], queries, progress)
            for i, result in zip(indices, results, strict=True):
                scores[i] = result
        return scores


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Returns the number of equal leading ids."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
