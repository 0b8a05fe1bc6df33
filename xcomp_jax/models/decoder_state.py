"""State of the decoder: KV caches of unequal length, the text after them, scoring windows."""

from __future__ import annotations

import flax.struct
from jax import Array

from xcomp_jax.compression.ranking import Survivors
from xcomp_jax.models.sequence import Lengths


@flax.struct.dataclass
class LayerGroupCache:
    """Keys (rotated) and values of one layer group, read-only after prefill.

    key, value: [L, B, S, K, H]; mask: [B, S] bool, real tokens; length: [B] number of real tokens,
    which is also the position of the next token in these layers.
    key_scale, value_scale: [L, B, S, K] of int8 keys and values (`models.quantized`), else None.
    """

    key: Array
    value: Array
    mask: Array
    length: Array
    key_scale: Array | None = None
    value_scale: Array | None = None


@flax.struct.dataclass
class TextCache:
    """Keys and values of the text after a prefill: [L, B, M, K, H] for all layers of the model."""

    key: Array
    value: Array


@flax.struct.dataclass
class WindowCache:
    """States of one layer group of a scoring window, shared by all questions.

    key (before rotation), value: [L, B, S, K, H] of the text before the video and of the video;
    tail_query: [L, B, Q, N, H], before rotation, of the last visual tokens that belong to no score
    clip: the original counts them as text.
    """

    key: Array
    value: Array
    tail_query: Array


@flax.struct.dataclass
class PrefillOutput:
    """Result of one pass over a whole sequence.

    prefix [B, prefix, D], visual [B, V, D], suffix [B, suffix, D]: final hidden states after the
    last norm, V being the visual slots after compression; lengths: real tokens of each; cache: one
    entry per layer group, None unless requested; layers: when collected, per layer group the output
    of each layer [L, B, S, D]; survivors: when collected, per layer group the selection of the
    ranked drop before it.
    """

    prefix: Array
    visual: Array
    suffix: Array
    lengths: Lengths
    cache: tuple[LayerGroupCache, ...] | None
    layers: tuple[Array, ...] | None
    survivors: tuple[Survivors | None, ...] | None
