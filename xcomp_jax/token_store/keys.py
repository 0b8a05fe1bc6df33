"""What visual tokens follow from, and nothing else: equal keys are equal tokens."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
import re
from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

from xcomp_jax.config import DType
from xcomp_jax.token_store.sealed import canonical_json

FORMAT_VERSION = 1
"""Of keys and shards: part of every digest, so that a later format finds nothing of this one."""

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreKey:
    """The tokens of the clips of one video, sampled in one way, of one encoder.

    video_hash, encoder_hash: sha256 as 64 hexadecimal digits, of `hash_video` and `hash_encoder`.
    frame_indices: the chosen frames in order, `FramePlan.indices`; N of them.
    image_size: side in pixels that the encoder sees.
    preprocessing: everything else done to a frame, in words that change when it changes.
    clip_frames: frames T that the encoder sees at once. Clip s in [0, N) is made of the chosen
        frames (s + i) mod N for i < T.
    tokens_per_clip, width: a clip's tokens are [tokens_per_clip, width].
    dtype: of computation and of the stored tokens.

    Raises ValueError naming the field that cannot be.
    """

    video_hash: str
    frame_indices: tuple[int, ...] = dataclasses.field(repr=False)
    image_size: int
    preprocessing: str
    encoder_hash: str
    clip_frames: int
    tokens_per_clip: int
    width: int
    dtype: DType

    @classmethod
    def make(cls, *, frame_indices: Iterable[int], **fields: Any) -> StoreKey:
        """A key from any iterable of indices; the other fields as above."""
        return cls(frame_indices=tuple(map(operator.index, frame_indices)), **fields)

    def __post_init__(self) -> None:
        for field in ("video_hash", "encoder_hash"):
            value = getattr(self, field)
            if not (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)):
                raise ValueError(f"StoreKey.{field}={value!r} must be 64 hexadecimal digits")
        for field in ("image_size", "clip_frames", "tokens_per_clip", "width"):
            value = getattr(self, field)
            if type(value) is not int or value < 1:
                raise ValueError(f"StoreKey.{field}={value!r} must be an int of at least 1")
        if not (isinstance(self.preprocessing, str) and self.preprocessing):
            raise ValueError(f"StoreKey.preprocessing={self.preprocessing!r} must be some words")
        if self.dtype not in DTYPES:
            raise ValueError(f"StoreKey.dtype={self.dtype!r} must be one of {list(DTYPES)}")
        indices = self.frame_indices
        if not indices or any(type(index) is not int or index < 0 for index in indices):
            raise ValueError("StoreKey.frame_indices must be at least one int, none negative")

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of all fields as 64 hexadecimal digits; the video's name in the store."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()

    @property
    def num_clips(self) -> int:
        """Clips that a video of N chosen frames has: one begins at each."""
        return len(self.frame_indices)

    @property
    def clip_shape(self) -> tuple[int, int]:
        return self.tokens_per_clip, self.width

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, text: str) -> StoreKey:
        """The key whose `to_dict` was written as JSON. Raises ValueError if it is not one."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT_VERSION:
            raise ValueError(f"not a token store key of format {FORMAT_VERSION}")
        try:
            return cls.make(**fields)
        except TypeError as error:  # missing or unknown fields
            raise ValueError(f"not a token store key: {error}") from error
