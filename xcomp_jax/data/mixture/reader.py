"""Reads one sample of a mixture: its tokens, and its frames or stored encoder output."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xcomp_jax.config import MixtureConfig, SamplingConfig
from xcomp_jax.data.mixture.features import FeatureStore
from xcomp_jax.data.mixture.media import read_pixels, time_message
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.data.mixture.scan_table import Facts, Table
from xcomp_jax.data.tokens import training_tokens
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.sampling import FramePlan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureReader:
    """The settings and sources from which samples are read.

    image_size: side S in pixels to which frames are resized.
    clip_frames: the encoder's clip length; frame counts are multiples of it.
    max_text_tokens, prompt_as_asked: see `DataConfig`.
    table: the result of `scan`.
    features: store of encoder output; None decodes images and videos.
    """

    config: MixtureConfig
    sampling: SamplingConfig
    image_size: int
    clip_frames: int
    tokenizer: PreTrainedTokenizerBase
    max_text_tokens: int
    table: Table = dataclasses.field(repr=False)
    prompt_as_asked: bool = False
    features: FeatureStore | None = None

    @property
    def root(self) -> Path:
        """Folder that media paths are relative to."""
        return Path(self.config.root)

    @property
    def visual_field(self) -> str:
        """Name of the batch field that holds the visual input."""
        return "frames" if self.features is None else "merged_features"

    @property
    def rows_per_frame(self) -> int:
        """Number of rows of the visual input per frame."""
        return 1 if self.features is None else self.features.tokens_per_frame

    @property
    def bytes_per_frame(self) -> int:
        """Number of bytes of the visual input per frame."""
        return self.image_size**2 * 3 if self.features is None else self.features.bytes_per_frame

    def plan(self, sample: Sample) -> FramePlan:
        """Plans the frames of a sample.

        Raises:
            VideoError: according to the scan, the file cannot be used.
        """
        return self._facts(sample).plan(
            sample.media, self.root, sampling=self.sampling, clip_frames=self.clip_frames
        )

    def tokens(self, sample: Sample, plan: FramePlan) -> tuple[np.ndarray, np.ndarray]:
        """Returns (input_ids, labels), int32 [S] each; errors as `training_tokens`."""
        return training_tokens(
            sample.id,
            sample.conversations,
            time_message(sample.media, plan),
            tokenizer=self.tokenizer,
            max_text_tokens=self.max_text_tokens,
            prompt_as_asked=self.prompt_as_asked,
        )

    def require_features(self, sample: Sample, plan: FramePlan) -> None:
        """Raises TokenStoreError if features are read and their index does not list the sample."""
        if self.features is not None:
            self.features.require(sample.media, plan, self._facts(sample).bytes)

    def feature_digest(self, sample: Sample) -> str:
        """Returns the digest of the stored features of a sample; errors as `require_features`."""
        assert self.features is not None
        return self.features.digest(sample.media, self.plan(sample), self._facts(sample).bytes)

    def visual(self, sample: Sample, plan: FramePlan) -> np.ndarray:
        """Reads frames, uint8 [F, X, X, 3], or features, [F * tokens_per_frame, D_vision].

        Raises:
            VideoError, TokenStoreError: they cannot be read.
        """
        if self.features is None:
            return read_pixels(
                sample.media,
                self.root,
                plan,
                self.image_size,
                max_damaged=self.sampling.max_damaged,
            )
        return self.features.read(sample.media, plan, self._facts(sample).bytes)

    def visual_zeros(self, plan: FramePlan) -> np.ndarray:
        """Returns zeros of the shape of `visual`."""
        if self.features is not None:
            return self.features.zeros(plan)
        return np.zeros((plan.num_frames, self.image_size, self.image_size, 3), np.uint8)

    def _facts(self, sample: Sample) -> Facts:
        facts = self.table.get((sample.media.path, sample.media.kind))
        if facts is None:
            raise VideoError(
                self.root / sample.media.path,
                "is not in the table of the scan",
                "Scan the mixture again with the same --config and --root, and this table (--out).",
            )
        return facts
