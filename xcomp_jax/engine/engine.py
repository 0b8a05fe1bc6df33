"""Runs the compiled inference programs; no other module compiles for inference.

Every method takes ragged host data, pads it to buckets so that few programs are compiled, places it
on one device or a mesh, and runs one program of `programs`. Padding changes no result beyond
rounding. Time and work are added to the open account (`xcomp_jax.account`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from xcomp_jax import account
from xcomp_jax.compression.schedule import RankedDrop, plan_layer_groups
from xcomp_jax.config import ModelConfig
from xcomp_jax.engine import programs
from xcomp_jax.engine.batches import SUFFIX_UNIT, Batches
from xcomp_jax.engine.buckets import bucket
from xcomp_jax.engine.decode_state import DecodeState
from xcomp_jax.engine.encoder import CLIPS_PER_DEVICE, ClipEncoder
from xcomp_jax.engine.generate import Generated, generate
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.engine.placement import Placement
from xcomp_jax.models.decoder_state import LayerGroupCache, PrefillOutput, TextCache, WindowCache
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.selection.frame_scores import scores_of_clips
from xcomp_jax.selection.plan import ScoringPlan
from xcomp_jax.selection.query import Query
from xcomp_jax.selection.window_pass import TextQuery

CAPACITY_UNIT = 256
"""Smallest bucket of a conversation's text cache."""

WINDOWS_PER_DEVICE = 4
"""Scoring windows per call and device: enough to fill an accelerator."""


class Engine:
    """Runs one model on one device or a mesh.

    Args:
        config: configuration of the model, including its compression.
        params: parameters; on a mesh, placed by the rule table of `sharding`.
        mesh: devices to use; None uses the default device.
    """

    def __init__(self, config: ModelConfig, params: Params, *, mesh: Mesh | None = None) -> None:
        self.config = config
        self.model = XComp(config)
        self.placement = Placement(mesh)
        self.params = self.placement.parameters(params)
        self.layer_groups = plan_layer_groups(
            config.compression,
            num_layers=config.llm.num_hidden_layers,
            tokens_per_frame=config.projector.tokens_per_frame,
        )
        self._batches = Batches(config, self.layer_groups, self.placement)

    @property
    def caches_video(self) -> bool:
        """True if a video's cache can be reused for any question.

        False for the base model's drop by attention, which depends on the question.
        """
        return not any(
            isinstance(group.drop, RankedDrop) and group.drop.by_attention
            for group in self.layer_groups
        )

    @property
    def windows_per_call(self) -> int:
        """Maximum number of scoring windows per call."""
        return WINDOWS_PER_DEVICE * self.placement.batch_multiple

    @functools.cached_property
    def encoder(self) -> ClipEncoder:
        """Compiled encoder and projector, from clips to visual tokens."""

        def program(clips: np.ndarray) -> jax.Array:
            with self.placement.scope():
                return programs.encode_clips(self.model, self.params, self.placement.clips(clips))

        return ClipEncoder(program, CLIPS_PER_DEVICE * self.placement.num_devices)

    def prefill_video(
        self, visual: Sequence[np.ndarray], prefixes: Sequence[Sequence[int]]
    ) -> tuple[LayerGroupCache, ...]:
        """Prefills a batch of videos and the text before each.

        Args:
            visual: visual tokens [V, D] of each video; prefixes: ids before each.

        Raises:
            ConfigError: the compression's strides do not divide a video's number of tokens.
        """
        with account.measure("prefill video"), self.placement.scope():
            prefix_ids, tokens, lengths = self._batches.videos(visual, prefixes)
            cache = jax.block_until_ready(
                programs.prefill_video(self.model, self.params, prefix_ids, tokens, lengths)
            )
        account.count("visual tokens prefilled", sum(map(len, visual)))
        return cache

    def prefill(
        self,
        visual: Sequence[np.ndarray],
        prefixes: Sequence[Sequence[int]],
        suffixes: Sequence[Sequence[int]],
    ) -> DecodeState:
        """Prefills videos and the text around each in one pass.

        Models with `caches_video` use `prefill_video` and `extend` instead.

        Args:
            visual, prefixes: as in `prefill_video`; suffixes: ids after each video.
        """
        with account.measure("prefill"), self.placement.scope():
            prefix_ids, tokens, lengths = self._batches.videos(visual, prefixes, suffixes)
            suffix_ids = self._batches.ids(suffixes, SUFFIX_UNIT)
            logits, cache = jax.block_until_ready(
                programs.prefill(self.model, self.params, prefix_ids, tokens, suffix_ids, lengths)
            )
        account.count("text rows", sum(map(len, suffixes)))
        return DecodeState(logits, cache, None, None, len(suffixes))

    def extend(
        self,
        cache: tuple[LayerGroupCache, ...],
        suffixes: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        text: TextCache | None = None,
        text_length: int = 0,
    ) -> DecodeState:
        """Appends text after each cached video.

        Args:
            max_new_tokens: capacity reserved for generation.
            text: text cache of `text_length` tokens appended earlier.
        """
        with account.measure("extend text"), self.placement.scope():
            ids = self._batches.ids(suffixes, SUFFIX_UNIT)
            lengths = np.array(list(map(len, suffixes)), np.int32)
            total = self._batches.rows(lengths + np.int32(text_length))
            capacity = text_length + ids.shape[1] + max_new_tokens
            if text is None:
                text = programs.empty_text_cache(self.model, self.params, len(ids), capacity)
            elif text.key.shape[2] < capacity:
                text = _enlarged(text, bucket(capacity, CAPACITY_UNIT))
            logits, text = jax.block_until_ready(
                programs.extend(
                    self.model,
                    self.params,
                    ids,
                    self._batches.rows(lengths),
                    self._batches.rows(np.full_like(lengths, text_length)),
                    cache,
                    text,
                )
            )
        account.count("text rows", sum(map(len, suffixes)))
        return DecodeState(logits, cache, text, total, len(suffixes))

    def generate(self, state: DecodeState, config: GenerationConfig, *, seed: int = 0) -> Generated:
        """Generates tokens for every row; `ids` and `count` hold the real rows on the host."""
        with account.measure("generate"), self.placement.scope():
            generated = jax.block_until_ready(
                generate(
                    self.model,
                    self.params,
                    state.logits,
                    state.cache,
                    config,
                    text=state.text,
                    text_length=state.text_length,
                    seed=seed,
                )
            )
        ids, count = (np.asarray(x)[: state.size] for x in (generated.ids, generated.count))
        return generated.replace(ids=ids, count=count)

    def vision_features(self, pixels: np.ndarray) -> jax.Array:
        """Returns the vision tower's output [C, T * P, D_vision] for normalised clips."""
        with self.placement.scope():
            return programs.vision_features(self.model, self.params, pixels)

    def project_features(self, features: Any) -> jax.Array:
        """Merges and projects vision features into visual tokens [C, T * tokens_per_frame, D]."""
        with self.placement.scope():
            return programs.project_features(self.model, self.params, features)

    def layer_outputs(
        self, prefix_ids: np.ndarray, visual: np.ndarray, suffix_ids: np.ndarray
    ) -> tuple[PrefillOutput, jax.Array]:
        """Prefills one unpadded sequence; returns the output of every layer and all logits."""
        parts = (prefix_ids, visual, suffix_ids)
        lengths = Lengths(*(jnp.array([part.shape[1]]) for part in parts))
        with self.placement.scope():
            return programs.prefill_layers(self.model, self.params, *parts, lengths)

    def encode_batch(self, batch: Mapping[str, Any]) -> jax.Array:
        """Encodes a training batch into visual tokens [B, F * tokens_per_frame, D].

        Args:
            batch: global arrays with `merged_features`, or with `frames` [B, F, X, X, 3] uint8
                (`data.pipeline`).
        """
        with self.placement.scope():
            if "merged_features" in batch:
                return programs.project_merged(self.model, self.params, batch["merged_features"])
            return programs.encode_videos(self.model, self.params, batch["frames"])

    def prefill_batch(
        self, prefix_ids: Any, visual: Any, suffix_ids: Any, lengths: Lengths
    ) -> DecodeState:
        """Prefills a batch that is already padded and placed; every row is real."""
        with self.placement.scope():
            logits, cache = programs.prefill(
                self.model, self.params, prefix_ids, visual, suffix_ids, lengths
            )
        return DecodeState(logits, cache, None, None, len(prefix_ids))

    def prefill_windows(
        self,
        visual: np.ndarray,
        prefix_ids: Sequence[int],
        plan: ScoringPlan,
        *,
        batch_size: int | None = None,
    ) -> tuple[WindowCache, ...]:
        """Prefills scoring windows [W, V, D] that follow the same text, split over the devices.

        Args:
            batch_size: number of windows to pad to, so that a smaller last batch does not
                recompile.

        Returns:
            Window caches of at least W windows; later ones are padding.
        """
        with account.measure("prefill windows"), self.placement.scope():
            windows = self._batches.rows(visual, batch_size)
            ids = np.asarray(prefix_ids, np.int32)
            caches = jax.block_until_ready(
                programs.prefill_windows(self.model, self.params, ids, windows, plan.groups)
            )
        account.count("windows prefilled", len(visual))
        return caches

    def place_windows(self, caches: tuple[WindowCache, ...]) -> tuple[WindowCache, ...]:
        """Copies window caches to the devices, once for all questions that are scored."""
        with self.placement.scope():
            return self.placement.windows(caches)

    def score_windows(
        self,
        caches: tuple[WindowCache, ...],
        query: Query,
        plan: ScoringPlan,
        *,
        num_windows: int,
    ) -> np.ndarray:
        """Scores the clips of cached windows for one question.

        Returns:
            [num_windows, layers, clips] float64.
        """
        length = len(query.ids)
        ids = np.pad(np.asarray(query.ids, np.int32), (0, bucket(length, SUFFIX_UNIT) - length))
        text = TextQuery(
            jnp.asarray(ids),
            *(jnp.int32(row) for row in (length, query.question_start, query.header)),
        )
        with account.measure("score windows"), self.placement.scope():
            # Scores of each layer group: [L, W, segments, clips of a segment].
            group_scores: Any = jax.device_get(
                programs.score_windows(self.model, self.params, caches, text, plan)
            )
        account.count("windows scored", num_windows)
        clips = [
            scores_of_clips(np.asarray(scores[:, :num_windows], np.float64), segments)
            for scores, segments in zip(group_scores, plan.scored, strict=True)
        ]
        return np.moveaxis(np.concatenate(clips), 0, 1)


def _enlarged(text: TextCache, capacity: int) -> TextCache:
    padding = capacity - text.key.shape[2]
    widths = ((0, 0), (0, 0), (0, padding), (0, 0), (0, 0))
    return jax.tree.map(lambda x: np.pad(x, widths), jax.device_get(text))
