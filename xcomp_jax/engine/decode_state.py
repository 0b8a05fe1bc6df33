"""Holds the state that token generation continues from."""

from __future__ import annotations

import dataclasses

import numpy as np
from jax import Array

from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache


@dataclasses.dataclass(frozen=True)
class DecodeState:
    """State of a batch of sequences after prefill.

    logits: [B, vocab] float32 after the last prompt token.
    cache: KV cache of the video and the text before it, or of the whole prompt.
    text: text cache of the text after the video; text_length [B]: its real tokens; both None if
        `cache` holds the whole prompt.
    size: number of real rows; later rows are padding.
    """

    logits: Array
    cache: tuple[LayerGroupCache, ...]
    text: TextCache | None
    text_length: Array | np.ndarray | None
    size: int
