"""The key of stored tokens: everything they depend on, so that equal keys mean equal tokens."""

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
"""Version of keys and shards. Part of every digest, so a later format never reads this one."""

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreKey:
    """Identifies the tokens of one video, one frame sampling and one encoder.

    Attributes:
        video_hash, encoder_hash: 64 hexadecimal digits from `hash_video` and `hash_encoder`.
        frame_indices: the N sampled frames in order (`FramePlan.indices`).
        image_size: side of the encoder's input in pixels.
        preprocessing: description of all other preprocessing; must change whenever that changes.
        clip_frames: frames T per encoder clip. Clip s in [0, N) consists of the sampled frames
            (s + i) mod N for i < T.
        tokens_per_clip, width: shape of a clip's tokens, [tokens_per_clip, width].
        dtype: dtype of the computation and of the stored tokens.

    Raises:
        ValueError: a field is invalid; the message names it.
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
        """Creates a key from any iterable of indices; the other fields are as above."""
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
            raise ValueError(
                f"StoreKey.preprocessing={self.preprocessing!r} must be a non-empty string"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"StoreKey.dtype={self.dtype!r} must be one of {list(DTYPES)}")
        indices = self.frame_indices
        if not indices or any(type(index) is not int or index < 0 for index in indices):
            raise ValueError("StoreKey.frame_indices must be non-negative ints, at least one")

    @functools.cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 of all fields; the name of the video's folder in the store."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()

    @property
    def num_clips(self) -> int:
        """Number of clips; equals the number of sampled frames, as a clip starts at each."""
        return len(self.frame_indices)

    @property
    def clip_shape(self) -> tuple[int, int]:
        return self.tokens_per_clip, self.width

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and the format version as JSON values."""
        return {"format": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, text: str) -> StoreKey:
        """Parses the JSON of `to_dict`; ValueError if it is not a key of this format."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT_VERSION:
            raise ValueError(f"not a token store key of format {FORMAT_VERSION}")
        try:
            return cls.make(**fields)
        except TypeError as error:  # missing or unknown fields
            raise ValueError(f"not a token store key: {error}") from error
