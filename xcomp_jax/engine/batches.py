"""Pads ragged host data to buckets and places it on the devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xcomp_jax.compression.schedule import LayerGroup, check_visual_length
from xcomp_jax.config import ModelConfig
from xcomp_jax.engine.buckets import bucket
from xcomp_jax.engine.placement import Placement
from xcomp_jax.models.sequence import Lengths

PREFIX_UNIT, SUFFIX_UNIT = 16, 64
"""Smallest buckets of the text before and after the video."""


class Batches:
    """Builds padded batches for one model on its devices.

    The batch dimension is rounded up to a bucket that is a multiple of the devices that share a
    batch; padding rows repeat the last real row.
    """

    def __init__(
        self, config: ModelConfig, layer_groups: tuple[LayerGroup, ...], placement: Placement
    ) -> None:
        self._clip_tokens = config.vision.clip_frames * config.projector.tokens_per_frame
        self._layer_groups = layer_groups
        self._placement = placement

    def rows(self, rows: np.ndarray, size: int | None = None) -> Any:
        """Pads [B, ...] to a bucket of rows, at least `size`, and splits it over the devices."""
        padding = bucket(size or len(rows), self._placement.batch_multiple) - len(rows)
        if padding:
            rows = np.concatenate([rows, np.repeat(rows[-1:], padding, axis=0)])
        return self._placement.batch(rows)

    def ids(self, sequences: Sequence[Sequence[int]], unit: int) -> Any:
        """Pads token ids to int32 [B, S] with zeros; S is a bucket of `unit`."""
        length = bucket(max(map(len, sequences)), unit)
        return self.rows(
            np.stack(
                [np.pad(np.asarray(ids, np.int32), (0, length - len(ids))) for ids in sequences]
            )
        )

    def videos(
        self,
        visual: Sequence[np.ndarray],
        prefixes: Sequence[Sequence[int]],
        suffixes: Sequence[Sequence[int]] | None = None,
    ) -> tuple[Any, Any, Lengths]:
        """Pads prefix ids to [B, P] and visual tokens to [B, V, D], with the real lengths.

        Raises:
            ConfigError: a number of visual tokens that the compression's strides do not divide.
        """
        capacity = bucket(max(map(len, visual)), self._clip_tokens)
        for length in (capacity, *map(len, visual)):
            check_visual_length(self._layer_groups, length)
        tokens = np.stack([np.pad(x, ((0, capacity - len(x)), (0, 0))) for x in visual])
        empty: Sequence[Sequence[int]] = [()] * len(visual)
        lengths = (
            self.rows(np.array(list(map(len, part)), np.int32))
            for part in (prefixes, visual, suffixes or empty)
        )
        return self.ids(prefixes, PREFIX_UNIT), self.rows(tokens), Lengths(*lengths)
