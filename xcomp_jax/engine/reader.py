"""Running the language model: a video into a cache, text after it, and the answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from xcomp_jax.compression.schedule import RankedDrop, check_visual_length, plan_layer_groups
from xcomp_jax.config import ModelConfig
from xcomp_jax.engine.buckets import bucket
from xcomp_jax.engine.generate import Generated, GenerationConfig, generate
from xcomp_jax.engine.programs import empty_text, extend, padded_ids, prefill, prefill_video
from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp

PREFIX_UNIT, SUFFIX_UNIT = 16, 64
ROOM_UNIT = 256
"""Room for the text of a conversation grows in buckets of this."""

Reading = tuple[jax.Array, tuple[LayerGroupCache, ...], TextCache | None]
"""Logits [B, vocab] after the text, and the cache and keys of text that decoding goes on from."""


class Reader:
    """The language model with its compression."""

    def __init__(self, config: ModelConfig, params: Params) -> None:
        self.model = XComp(config)
        self.params = params
        self.layer_groups = plan_layer_groups(
            config.compression,
            num_layers=config.llm.num_hidden_layers,
            tokens_per_frame=config.projector.tokens_per_frame,
        )
        self._clip_tokens = config.vision.clip_frames * config.projector.tokens_per_frame

    @property
    def caches_video(self) -> bool:
        """Whether states of a video serve any question; the base model's drop by attention looks
        at the question first."""
        return not any(
            isinstance(stage.drop, RankedDrop) and stage.drop.by_attention
            for stage in self.layer_groups
        )

    def prefill_video(
        self,
        tokens: Sequence[np.ndarray],
        prefixes: Sequence[Sequence[int]],
        stopwatch: Stopwatch,
    ) -> tuple[LayerGroupCache, ...]:
        """The cache of several videos [V, D] and the text before each, padded to one batch."""
        begin = time.perf_counter()
        prefix_ids, visual, lengths = self._padded(tokens, prefixes)
        cache = jax.block_until_ready(
            prefill_video(self.model, self.params, prefix_ids, visual, lengths)
        )
        stopwatch.measure("watch", begin)
        stopwatch.count("visual tokens watched", sum(map(len, tokens)))
        return cache

    def extend(
        self,
        cache: tuple[LayerGroupCache, ...],
        suffixes: Sequence[Sequence[int]],
        stopwatch: Stopwatch,
        *,
        more: int,
        text: TextCache | None = None,
        written: int = 0,
    ) -> Reading:
        """Reads the text after each video.

        Args:
            more: tokens for which room must be left behind it.
            text: keys of the `written` tokens that were read before; it is filled further.
        """
        begin = time.perf_counter()
        ids = padded_ids(suffixes, SUFFIX_UNIT)
        length = np.array([len(suffix) for suffix in suffixes], np.int32)
        needed = written + ids.shape[1] + more
        if text is None:
            text = empty_text(self.model, self.params, len(suffixes), needed)
        elif text.key.shape[2] < needed:
            text = _with_room(text, bucket(needed, ROOM_UNIT))
        place = np.full_like(length, written)
        logits, text = jax.block_until_ready(
            extend(self.model, self.params, ids, length, place, cache, text)
        )
        stopwatch.measure("read", begin)
        stopwatch.count("text rows", int(length.sum()))
        return logits, cache, text

    def prefill(
        self,
        tokens: Sequence[np.ndarray],
        prefixes: Sequence[Sequence[int]],
        suffixes: Sequence[Sequence[int]],
        stopwatch: Stopwatch,
    ) -> Reading:
        """Videos and text in one pass, for models that keep no video states."""
        begin = time.perf_counter()
        prefix_ids, visual, lengths = self._padded(tokens, prefixes)
        suffix = np.array([len(suffix) for suffix in suffixes], np.int32)
        lengths = lengths.replace(suffix=suffix)
        ids = padded_ids(suffixes, SUFFIX_UNIT)
        logits, cache = jax.block_until_ready(
            prefill(self.model, self.params, prefix_ids, visual, ids, lengths)
        )
        stopwatch.measure("prefill", begin)
        stopwatch.count("text rows", int(suffix.sum()))
        return logits, cache, None

    def generate(
        self,
        reading: Reading,
        written: Sequence[int],
        config: GenerationConfig,
        stopwatch: Stopwatch,
        *,
        seed: int,
    ) -> Generated:
        """Decodes; `written` counts the text tokens that follow each video."""
        begin = time.perf_counter()
        logits, cache, text = reading
        places: Any = None if text is None else np.asarray(written, np.int32)
        made = jax.block_until_ready(
            generate(
                self.model,
                self.params,
                logits,
                cache,
                config,
                text=text,
                written=places,
                seed=seed,
            )
        )
        stopwatch.measure("generate", begin)
        return made

    def _padded(
        self, tokens: Sequence[np.ndarray], prefixes: Sequence[Sequence[int]]
    ) -> tuple[np.ndarray, np.ndarray, Any]:
        room = bucket(max(len(one) for one in tokens), self._clip_tokens)
        for length in (room, *(len(one) for one in tokens)):
            check_visual_length(self.layer_groups, length)
        visual = np.stack([np.pad(one, ((0, room - len(one)), (0, 0))) for one in tokens])
        before, count = (
            np.array([len(one) for one in part], np.int32) for part in (prefixes, tokens)
        )
        lengths: Any = Lengths(before, count, np.zeros_like(count))  # type: ignore[arg-type]
        return padded_ids(prefixes, PREFIX_UNIT), visual, lengths


def _with_room(text: TextCache, room: int) -> TextCache:
    more = room - text.key.shape[2]
    return jax.tree.map(
        lambda x: np.pad(x, ((0, 0), (0, 0), (0, more), (0, 0), (0, 0))), jax.device_get(text)
    )
