"""The whole model: video encoder, token merging and projector, compressing language model."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

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

    def __call__(
        self,
        pixels: Float[Array, "C T X X 3"],
        prefix_ids: Int[Array, "B prefix"],
        suffix_ids: Int[Array, "B suffix"],
    ) -> Float[Array, "B suffix vocab"]:
        """Uses every parameter once; only for `init` and shape evaluation."""
        visual = self.encode(pixels)
        batch = prefix_ids.shape[0]
        visual = visual.reshape(batch, -1, visual.shape[-1])
        lengths = Lengths(
            *(jnp.full((batch,), part.shape[1]) for part in (prefix_ids, visual, suffix_ids))
        )
        out = self.prefill(prefix_ids, visual, suffix_ids, lengths)
        return self.logits(out.suffix)

    def vision_features(self, pixels: Float[Array, "C T X X 3"]) -> Float[Array, "C S D_vision"]:
        """Encodes clips into S = T * P features, the input of token merging."""
        return self.vision(pixels)

    def project(self, features: Float[Array, "C S D_vision"]) -> Float[Array, "C V D"]:
        """Merges and projects features to V = T * tokens_per_frame visual tokens."""
        return self.projector(features)

    def encode(self, pixels: Float[Array, "C T X X 3"]) -> Float[Array, "C V D"]:
        """Encodes clips (or, with T = 1, images) into visual tokens for the language model.

        Args:
            pixels: normalized frames (`video.normalize.normalize`).
        """
        return self.projector(self.vision(pixels))

    def merged_features(self, pixels: Float[Array, "C T X X 3"]) -> Float[Array, "C V D_vision"]:
        """Encodes clips into merged features, before the trainable layers of the projector."""
        return self.projector.merge(self.vision(pixels))

    def project_merged(self, merged: Float[Array, "*batch D_vision"]) -> Float[Array, "*batch D"]:
        """Projects merged features to visual tokens."""
        return self.projector.mlp(merged)

    def prefill(
        self,
        prefix_ids: Int[Array, "B prefix"],
        visual: Float[Array, "B V D"],
        suffix_ids: Int[Array, "B suffix"],
        lengths: Lengths,
        *,
        keep_cache: bool = False,
        collect_layers: bool = False,
        remat: bool = False,
    ) -> PrefillOutput:
        """Runs the decoder over text ids around visual tokens; see `Qwen2Decoder.prefill`."""
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
        self, prefix_ids: Int[Array, "B prefix"], visual: Float[Array, "B V D"], lengths: Lengths
    ) -> tuple[LayerGroupCache, ...]:
        """Computes the cache of a video and the text before it, which any text can follow.

        Args:
            lengths: real tokens, `suffix` being zero.
        """
        suffix_ids = jnp.zeros((prefix_ids.shape[0], 0), prefix_ids.dtype)
        cache = self.prefill(prefix_ids, visual, suffix_ids, lengths, keep_cache=True).cache
        assert cache is not None
        return cache

    def empty_text_cache(self, batch: int, room: int) -> TextCache:
        """Allocates space for `room` tokens; see `Qwen2Decoder.empty_text_cache`."""
        return self.llm.empty_text_cache(batch, room)

    def extend(
        self,
        ids: Int[Array, "B Q"],
        written: Int[Array, " B"],
        cache: tuple[LayerGroupCache, ...],
        text: TextCache,
    ) -> tuple[Float[Array, "B Q D"], TextCache]:
        """Appends text ids to a cached sequence; see `Qwen2Decoder.extend`."""
        return self.llm.extend(self.llm.embed(ids), written, cache, text)

    def logits(self, hidden: Float[Array, "*batch D"]) -> Float[Array, "*batch vocab"]:
        """Computes float32 logits."""
        return self.llm.logits(hidden)

    def output_table(self) -> Float[Array, "vocab D"]:
        """Returns the rows that `logits` multiplies by."""
        return self.llm.output_table()


@functools.partial(jax.jit, static_argnums=0)  # op by op it takes a minute
def init_params(config: ModelConfig, key: Array) -> Params:
    """Draws random float32 parameters; traceable, so `jax.eval_shape` gives shapes at any size."""
    vision = config.vision
    pixels = jnp.zeros((1, vision.clip_frames, vision.image_size, vision.image_size, 3))
    ids = jnp.zeros((1, 1), jnp.int32)
    return XComp(config).init(key, pixels, ids, ids)["params"]


@functools.cache
def abstract_params(config: ModelConfig) -> Params:
    """Returns shapes and dtypes of `init_params`; cached, so callers must not change the result."""
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
