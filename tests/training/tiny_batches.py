"""Makes random batches for the tiny model and compares gradients."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np

from tests.tiny import TINY
from xcomp_jax.config import CompressionConfig, StageConfig
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.text.prompts import IGNORE

# Two layer groups only, because compile time grows with their number.
MODEL = XComp(dataclasses.replace(TINY, compression=CompressionConfig(max_distinct_lengths=2)))
STAGE = StageConfig(
    name="test", num_steps=10, learning_rate=1e-3, batch_size=4, compression=CompressionConfig()
)
PREFIX, SUFFIX, FRAMES = 5, 9, 8


def batch_of(size: int, seed: int = 0, frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Returns random frames and text; suffixes differ in length and number of labels."""
    rng = np.random.default_rng(seed)
    vocab, image = TINY.llm.vocab_size, TINY.vision.image_size
    suffix_len = rng.integers(3, SUFFIX + 1, size).astype(np.int32)
    suffix_ids = rng.integers(0, vocab, (size, SUFFIX)).astype(np.int32)
    labels = np.where(np.arange(SUFFIX) < suffix_len[:, None], suffix_ids, IGNORE)
    labels[:, 1] = IGNORE
    return {
        "frames": rng.integers(0, 256, (size, frames, image, image, 3), np.uint8),
        "num_frames": np.full(size, frames, np.int32),
        "prefix_ids": rng.integers(0, vocab, (size, PREFIX)).astype(np.int32),
        "prefix_len": np.full(size, PREFIX, np.int32),
        "prefix_labels": np.full((size, PREFIX), IGNORE, np.int32),
        "suffix_ids": suffix_ids,
        "suffix_len": suffix_len,
        "suffix_labels": labels.astype(np.int32),
    }


def stored_of(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns `batch_of` with random encoder features instead of frames: no encoder to compile."""
    batch = batch_of(size, seed)
    shape = (size, FRAMES * TINY.projector.tokens_per_frame, TINY.vision.width)
    batch["merged_features"] = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    del batch["frames"]
    return batch


def norm(tree: Params) -> float:
    """Returns the global norm in float64."""
    return math.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(tree)))


def assert_same_gradient(got: Params, want: Params, rtol: float = 1e-5) -> None:
    """Checks the norm of the difference against the norm of `want`."""
    difference = jax.tree.map(np.subtract, *jax.device_get((got, want)))
    assert norm(difference) < rtol * norm(want)
