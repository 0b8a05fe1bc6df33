"""Keys and values that questions share in memory: scores, KV caches and text caches.

Every key begins with its kind and the video's id. Texts are found by content: the video, its
selected frames, the tokens before it, and the longest equal beginning of the tokens after it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xcomp_jax.engine.row_batch import Cache, DecodedSequence
from xcomp_jax.inference.answerer import Frames, common_prefix
from xcomp_jax.inference.encoded_video import EncodedVideo, num_bytes
from xcomp_jax.models.decoder_state import TextCache
from xcomp_jax.serving.memory import StateMemory
from xcomp_jax.serving.question import Question

MIN_REUSED = 8
"""Fewer equal leading tokens are not worth a copy of their keys and values."""

Scored = tuple[Frames, np.ndarray]
"""Selected frames and the scores of all."""


class States:
    """Reads and writes the states of questions; used by the device thread only."""

    def __init__(self, memory: StateMemory) -> None:
        self._memory = memory

    def forget(self, video_id: str) -> None:
        """Drops all states of a video."""
        self._memory.drop_video(video_id)

    def scores(self, question: Question) -> Scored | None:
        """Returns the scores of an equal question about the same video."""
        found: Scored | None = self._memory.get(_scores_key(question))
        return found

    def keep_scores(self, question: Question, scored: Scored) -> None:
        """Keeps scores for later turns of the conversation."""
        frames, scores = scored
        self._memory.put(_scores_key(question), scored, scores.nbytes + 8 * len(frames or ()))

    def keep_windows(self, video_id: str, video: EncodedVideo) -> None:
        """Counts a video's window caches, which are dropped like other states."""
        size = num_bytes(video.window_caches)
        self._memory.put(("windows", video_id), video, size, video.window_caches.clear)

    def cache(self, question: Question) -> Cache | None:
        """Returns the KV cache of a question's frames."""
        found: Cache | None = self._memory.get(("cache", *question.state_key))
        return found

    def keep_cache(self, question: Question, cache: Cache) -> None:
        """Keeps the KV cache of a question's frames."""
        self._memory.put(("cache", *question.state_key), cache, num_bytes(cache))

    def sequence_of(self, question: Question, cache: Cache) -> DecodedSequence:
        """Returns the sequence that answers a question, after the longest text in memory."""
        sequence = DecodedSequence(cache, question.ids, question.generation, question.seed)
        found: Any = None
        reused = MIN_REUSED - 1
        for key in self._memory.keys():  # noqa: SIM118, no dict
            if isinstance(key, tuple) and key[:4] == ("text", *question.state_key):
                length = common_prefix(key[4], question.ids[:-1])
                if length > reused:
                    found, reused = key, length
        if found is not None:
            sequence.text, sequence.text_length = self._memory.get(found), reused
            sequence.ids = question.ids[reused:]
            question.reused = reused
        return sequence

    def keep_text(self, question: Question, ids: tuple[int, ...], text: TextCache) -> None:
        """Keeps the text of an answered question in place of that which it continues."""
        self._memory.drop(("text", *question.state_key, question.ids[: question.reused]))
        self._memory.put(("text", *question.state_key, ids), text, num_bytes(text))


def _scores_key(question: Question) -> tuple[Any, ...]:
    return ("scores", question.video.id, question.scored_ids)
