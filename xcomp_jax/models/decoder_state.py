"""What the decoder remembers: caches of unequal length, new text, scoring windows."""

from __future__ import annotations

import flax.struct
from jax import Array

from xcomp_jax.compression.ranking import Survivors
from xcomp_jax.models.sequence import Lengths


@flax.struct.dataclass
class LayerGroupCache:
    """Keys (rotated) and values of one stage's layers, read-only after prefill.

    key, value: [L, B, S, K, H]; mask: [B, S] bool, real tokens; length: [B], how many there are,
    which is also the position of the next token at these layers.
    """

    key: Array
    value: Array
    mask: Array
    length: Array


@flax.struct.dataclass
class TextCache:
    """Keys and values of the tokens written since prefill: [L, B, M, K, H] for all L layers."""

    key: Array
    value: Array


@flax.struct.dataclass
class WindowCache:
    """What one stage of a scoring window leaves for questions (`Qwen2Decoder.score_window`).

    key (before rotation), value: [L, B, S, K, H] of text before and video; tail_query:
    [L, B, R, N, H], before rotation, of the last visual tokens that belong to no clip: the
    original counts them as text.
    """

    key: Array
    value: Array
    tail_query: Array


@flax.struct.dataclass
class PrefillOutput:
    """Result of one pass over a whole sequence.

    prefix [B, P, D], visual [B, V', D], suffix [B, Q, D]: final hidden states after the last norm,
    V' being what compression left; lengths: real tokens of each; cache: one entry per stage, or
    None when it was not asked for; layers: when collected, per stage the output of each of its
    layers [L, B, S, D]; survivors: collected likewise, per stage what a ranked drop left before it.
    """

    prefix: Array
    visual: Array
    suffix: Array
    lengths: Lengths
    cache: tuple[LayerGroupCache, ...] | None
    layers: tuple[Array, ...] | None
    survivors: tuple[Survivors | None, ...] | None
