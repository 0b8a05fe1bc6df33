"""The whole model: video encoder, token merging and projector, compressing language model."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import ModelConfig
from xcomp_jax.models.decoder_state import LayerGroupCache, PrefillOutput, TextCache
from xcomp_jax.models.internvideo2 import InternVideo2Encoder
from xcomp_jax.models.projector import Projector
from xcomp_jax.models.qwen2 import Qwen2Decoder
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.umt import UMTEncoder

Params = dict[str, Any]

ENCODERS = {"umt": UMTEncoder, "internvideo2": InternVideo2Encoder}


class XComp(nn.Module):
    """Pure `init`/`apply` model; `models.apply` has its methods as plain functions.

    Parameters are a plain nested dict with the keys `vision`, `projector` and `llm`; equal layers
    are stacked along a leading axis.
    """

    config: ModelConfig

    def setup(self) -> None:
        cfg = self.config
        self.vision = ENCODERS[cfg.vision.architecture](
            cfg.vision, cfg.compute_dtype, cfg.kernels.encoder_attention
        )
        self.projector = Projector(cfg, cfg.compute_dtype)
        self.llm = Qwen2Decoder(
            cfg.llm,
            plan_layer_groups(
                cfg.compression,
                num_layers=cfg.llm.num_hidden_layers,
                tokens_per_frame=cfg.projector.tokens_per_frame,
            ),
            cfg.compute_dtype,
            cfg.kernels,
        )

    def __call__(self, pixels: Array, prefix_ids: Array, suffix_ids: Array) -> Array:
        """Touches every parameter once; only for `init` and shape evaluation."""
        visual = self.encode(pixels)
        batch = prefix_ids.shape[0]
        visual = visual.reshape(batch, -1, visual.shape[-1])
        lengths = Lengths(
            *(jnp.full((batch,), part.shape[1]) for part in (prefix_ids, visual, suffix_ids))
        )
        out = self.prefill(prefix_ids, visual, suffix_ids, lengths)
        return self.logits(out.suffix)

    def encode(self, pixels: Array) -> Array:
        """Visual tokens of clips (or, with T = 1, of images).

        Args:
            pixels: [C, T, S, S, 3] normalised frames (`video.normalize.normalize`).

        Returns:
            [C, T * tokens_per_frame, D] embeddings for the language model.
        """
        return self.projector(self.vision(pixels))

    def vision_features(self, pixels: Array) -> Array:
        """[C, T, S, S, 3] -> [C, T * P, D_vision], what token merging gets."""
        return self.vision(pixels)

    def project(self, features: Array) -> Array:
        """[C, T * P, D_vision] -> [C, T * tokens_per_frame, D]."""
        return self.projector(features)

    def merged_features(self, pixels: Array) -> Array:
        """[C, T, S, S, 3] -> [C, T * tokens_per_frame, D_vision], before what learns."""
        return self.projector.merge(self.vision(pixels))

    def project_merged(self, merged: Array) -> Array:
        """[..., D_vision] after token merging -> [..., D]."""
        return self.projector.mlp(merged)

    def prefill(
        self,
        prefix_ids: Array,
        visual: Array,
        suffix_ids: Array,
        lengths: Lengths,
        *,
        keep_cache: bool = False,
        collect_layers: bool = False,
        remat: bool = False,
    ) -> PrefillOutput:
        """Text ids [B, P] and [B, Q] around visual tokens [B, V, D]; see `Qwen2Decoder.prefill`."""
        return self.llm.prefill(
            self.llm.embed(prefix_ids),
            visual.astype(self.config.compute_dtype),
            self.llm.embed(suffix_ids),
            lengths,
            keep_cache=keep_cache,
            collect_layers=collect_layers,
            remat=remat,
        )

    def prefill_video(
        self, prefix_ids: Array, visual: Array, lengths: Lengths
    ) -> tuple[LayerGroupCache, ...]:
        """The cache of text before a video and the video, which any text can follow.

        Args:
            prefix_ids: [B, P]; visual: [B, V, D]; lengths: real tokens, `suffix` being zero.
        """
        nothing = jnp.zeros((prefix_ids.shape[0], 0), prefix_ids.dtype)
        cache = self.prefill(prefix_ids, visual, nothing, lengths, keep_cache=True).cache
        assert cache is not None
        return cache

    def empty_text_cache(self, batch: int, room: int) -> TextCache:
        """See `Qwen2Decoder.empty_text_cache`."""
        return self.llm.empty_text_cache(batch, room)

    def extend(
        self, ids: Array, written: Array, cache: tuple[LayerGroupCache, ...], new: TextCache
    ) -> tuple[Array, TextCache]:
        """Text ids [B, Q] after a cached sequence; see `Qwen2Decoder.extend`."""
        return self.llm.extend(self.llm.embed(ids), written, cache, new)

    def logits(self, hidden: Array) -> Array:
        """[..., D] -> [..., vocab] float32."""
        return self.llm.logits(hidden)

    def output_table(self) -> Array:
        """[vocab, D], the rows that `logits` multiplies by."""
        return self.llm.output_table()


def init_params(config: ModelConfig, key: Array) -> Params:
    """Random parameters in float32; traceable, so `jax.eval_shape` gives shapes at any size."""
    vision = config.vision
    pixels = jnp.zeros((1, vision.clip_frames, vision.image_size, vision.image_size, 3))
    ids = jnp.zeros((1, 1), jnp.int32)
    return XComp(config).init(key, pixels, ids, ids)["params"]


@functools.cache
def abstract_params(config: ModelConfig) -> Params:
    """Shapes and dtypes of `init_params` without computing anything. Not to be changed: shared."""
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
