"""What token generation continues from."""

from __future__ import annotations

import dataclasses

import numpy as np
from jax import Array

from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache


@dataclasses.dataclass(frozen=True)
class DecodeState:
    """A batch of sequences whose prompt has been processed.

    logits: [B, vocab] float32 after the last prompt token.
    cache: of the video and the text before it, or of the whole prompt.
    text: cache of the text after the video, and text_length [B] its real tokens; None where `cache`
        holds the whole prompt.
    size: rows that are real; the rest pad the batch.
    """

    logits: Array
    cache: tuple[LayerGroupCache, ...]
    text: TextCache | None
    text_length: Array | np.ndarray | None
    size: int
