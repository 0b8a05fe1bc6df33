"""Compiles the programs of a server before its first request."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

import numpy as np

from xcomp_jax.engine.buckets import bucket
from xcomp_jax.engine.row_batch import MAX_ROWS, DecodedSequence, RowBatch
from xcomp_jax.inference.session import Session
from xcomp_jax.text.chatml import Turn
from xcomp_jax.text.conversation import conversation_ids
from xcomp_jax.video.messages import time_message

logger = logging.getLogger(__name__)

MANY = MAX_ROWS - 4
STEPS = ((1, 1), (1, 1), (2, 3), (MANY, 12), (1, 12), (2, 2), (MANY, 1), (MANY, 0))
"""Sequences that join, and that are kept: every change between one, four and sixteen rows."""

QUESTION = "What happens in this video?"


def buckets_up_to(most: int, clip_frames: int) -> list[int]:
    """Returns the numbers of frames, one per compiled size, up to that which holds `most`."""
    sizes = {bucket(count, clip_frames) for count in range(clip_frames, most + 1, clip_frames)}
    return sorted(sizes)


def warm_up(session: Session, numbers_of_frames: Iterable[int]) -> None:
    """Compiles encoding once, and prefill and decoding for videos of each number of frames."""
    config = session.config
    size, clip = config.vision.image_size, config.vision.clip_frames
    session.engine.encoder.encode(np.zeros((1, clip, size, size, 3), np.uint8))
    for count in numbers_of_frames:
        logger.info("compiling for %d frames", count)
        tokens = np.zeros((count * config.projector.tokens_per_frame, config.llm.hidden_size))
        visual = tokens.astype(config.compute_dtype)
        turns = [Turn("user", QUESTION)]
        prefix, ids = conversation_ids(session.tokenizer, turns, 0, time_message(60.0, count))
        cache = session.engine.prefill_video([visual], [prefix])
        sequence = DecodedSequence(cache, ids, session.generation)
        batch = RowBatch(session.engine)
        for joining, kept in STEPS:
            batch.admit([dataclasses.replace(sequence, generated=[]) for _ in range(joining)])
            batch.decode(1)
            batch.text_of(batch.active[0])
            batch.release(batch.active[kept:])
