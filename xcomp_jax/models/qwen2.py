"""Qwen2 decoder with LP-Comp between its layers (paper 3.2, docs/reference_behaviour.md#lp-comp).

One definition serves training, prefill and decoding. Layers that see the same tokens form a layer
group and share one scan; between groups every frame drops tokens and positions are counted anew, so
the KV cache has another length in every group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.ranking import Survivors, survivors
from xcomp_jax.compression.schedule import LayerGroup, RankedDrop
from xcomp_jax.config import KernelConfig, LLMConfig
from xcomp_jax.models.context_split import context_split
from xcomp_jax.models.decoder_layer import DecoderLayer
from xcomp_jax.models.decoder_state import LayerGroupCache, PrefillOutput, TextCache
from xcomp_jax.models.layer_stack import LayerStack, PrefillOptions, Rotation
from xcomp_jax.models.quantized import scale_name
from xcomp_jax.models.rms_norm import RMSNorm
from xcomp_jax.models.sequence import Lengths, Parts
from xcomp_jax.models.stacked import split_layer_groups, stacked_params
from xcomp_jax.sharding import constrained


class Qwen2Decoder(nn.Module):
    """Embedding, layer groups, final norm and head.

    `layer_groups` comes from `compression.schedule.plan_layer_groups`.
    """

    config: LLMConfig
    layer_groups: tuple[LayerGroup, ...]
    dtype: jnp.dtype
    kernels: KernelConfig = KernelConfig()

    def setup(self) -> None:
        cfg = self.config
        self.embed_tokens = nn.Embed(
            cfg.vocab_size,
            cfg.hidden_size,
            dtype=self.dtype,
            # Same init std as Qwen2, so that embeddings of unseen tokens do not dominate the
            # logits.
            embedding_init=nn.initializers.normal(0.02),
        )
        self.layer = DecoderLayer(cfg, self.dtype, parent=None)
        example = jnp.zeros((1, 1, cfg.hidden_size), self.dtype)
        self.layers = stacked_params(
            self,
            "layers",
            self.layer,
            cfg.num_hidden_layers,
            example,
            lambda query, key, value: (query, None),
        )
        self.norm = RMSNorm(cfg.rms_norm_eps, self.dtype)
        if not cfg.tie_word_embeddings:
            self.lm_head = nn.Dense(cfg.vocab_size, use_bias=False, dtype=self.dtype)

    def embed(self, ids: Int[Array, "B S"]) -> Float[Array, "B S D"]:
        """Looks up token embeddings."""
        if (scale := self._scale(self.embed_tokens, "embedding")) is None:
            return self.embed_tokens(ids)
        return self.embed_tokens(ids) * scale[ids][..., None].astype(self.dtype)

    def logits(self, hidden: Float[Array, "*batch D"]) -> Float[Array, "*batch vocab"]:
        """Computes float32 logits of final hidden states."""
        if self.config.tie_word_embeddings:
            table = self.embed_tokens.embedding.astype(self.dtype)
            out = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
            scale = self._scale(self.embed_tokens, "embedding")
        else:
            out = self.lm_head(hidden).astype(jnp.float32)
            scale = self._scale(self.lm_head, "kernel")
        if scale is None:
            return out
        return out * scale.astype(jnp.float32).reshape((1,) * (out.ndim - 1) + (-1,))

    def _scale(self, module: nn.Module, name: str) -> Float[Array, " vocab"] | None:
        """Returns the scales of a module's int8 parameter; None if it is not quantised."""
        if not module.has_variable("params", scale_name(name)):
            return None
        return module.get_variable("params", scale_name(name))

    def output_table(self) -> Float[Array, "vocab D"]:
        """Returns the rows that `logits` multiplies by."""
        if self.config.tie_word_embeddings:
            return self.embed_tokens.embedding
        return self.lm_head.variables["params"]["kernel"].T

    def prefill(
        self,
        prefix: Float[Array, "B prefix D"],
        visual: Float[Array, "B V D"],
        suffix: Float[Array, "B suffix D"],
        lengths: Lengths,
        *,
        keep_cache: bool,
        collect_layers: bool = False,
        remat: bool = False,
    ) -> PrefillOutput:
        """Runs all layers over embedded text, visual tokens and text.

        On a mesh with `context` the sequence is split over its devices; caches are then in the
        order of devices, and layers cannot be collected.

        Args:
            lengths: real tokens of each part.
            keep_cache: return keys and values for decoding.
            collect_layers: return every layer's output and the selections of ranked drops (parity
                tests, figures).
            remat: recompute layers in the backward pass instead of storing them.

        Raises:
            ConfigError: a ranked schedule on a mesh with `context`.
        """
        split = context_split(self.layer_groups, visual.shape[1])
        assert not collect_layers or split.order.devices == 1, "tokens are out of order"
        options = PrefillOptions(keep_cache, collect_layers, remat)
        parts = Parts(split.text(prefix), split.video(visual), split.text(suffix), lengths)
        original, stack = parts, self._stack()
        caches: list[Any] = []
        outputs: list[Any] = []
        selections: list[Survivors | None] = []
        for group, variables in zip(self.layer_groups, self._layer_variables(), strict=True):
            parts, selection = _compressed(group, parts, original, stack, variables["params"])
            parts, cache, layers = stack.prefill(variables, parts, split.order, options)
            caches.append(cache)
            outputs.append(layers)
            selections.append(selection)
        # Gathered on every device before padding is cut off: XLA's partitioner loses the gradient
        # of the last row where the cut leaves devices of `context` and `tensor` unequal shares.
        return PrefillOutput(
            prefix=self.norm(constrained(parts.prefix)[:, : prefix.shape[1]]),
            visual=self.norm(split.order.to_tokens(parts.visual)),
            suffix=self.norm(constrained(parts.suffix)[:, : suffix.shape[1]]),
            lengths=parts.lengths,
            cache=tuple(caches) if keep_cache else None,
            layers=tuple(outputs) if collect_layers else None,
            survivors=tuple(selections) if collect_layers else None,
        )

    def rotation(self, positions: Int[Array, "B S"]) -> Rotation:
        """Returns the function that rotates queries or keys [B, S, N, H] to `positions`."""
        return self._stack().rotation(positions)

    def split(self, layer_groups: Sequence[LayerGroup]) -> list[Any]:
        """Returns the parameters of each layer group; later layers of the model are left out."""
        sizes = [group.num_layers for group in layer_groups]
        unused = self.config.num_hidden_layers - sum(sizes)
        return split_layer_groups(self.layers, [*sizes, unused])[: len(sizes)]

    def empty_text_cache(self, batch: int, room: int) -> TextCache:
        """Allocates space for `room` tokens of text after the cache, in every layer."""
        cfg = self.config
        shape = (cfg.num_hidden_layers, batch, room, cfg.num_key_value_heads, cfg.head_dim)
        return TextCache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def extend(
        self,
        x: Float[Array, "B Q D"],
        written: Int[Array, " B"],
        cache: tuple[LayerGroupCache, ...],
        text: TextCache,
    ) -> tuple[Float[Array, "B Q D"], TextCache]:
        """Appends text to a cached sequence: question rows, or one decoded token.

        The position in each layer group is that group's own cache length plus the place in `text`.

        Args:
            x: embedded rows. Rows after an example's real ones may be padding: later rows overwrite
                their keys and values before any row attends to them.
            written: int32, tokens already in `text`; the rows take the next Q places.

        Returns:
            Final hidden states after the last norm, and `text` with the rows' keys and values.
        """
        sizes = [group.num_layers for group in self.layer_groups]
        stack, extended = self._stack(), []
        for group_cache, params, group_text in zip(
            cache,
            split_layer_groups(self.layers, sizes),
            split_layer_groups(text, sizes),
            strict=True,
        ):
            x, group_text = stack.extend(params, x, group_cache, group_text, written)
            extended.append(group_text)
        return self.norm(x), jax.tree.map(lambda *layers: jnp.concatenate(layers), *extended)

    def _stack(self) -> LayerStack:
        return LayerStack(self.config, self.layer, self.dtype, self.kernels)

    def _layer_variables(self) -> list[Any]:
        """Splits the parameters, and adapters if there are any, into layer groups."""
        variables = {"params": self.layers}
        if self.has_variable("lora", "layers"):
            variables["lora"] = self.get_variable("lora", "layers")
        return split_layer_groups(variables, [group.num_layers for group in self.layer_groups])


def _compressed(
    group: LayerGroup, parts: Parts, original: Parts, stack: LayerStack, params: Any
) -> tuple[Parts, Survivors | None]:
    """Drops visual tokens before a layer group.

    Args:
        original: the sequence before all drops, of which a ranked drop leaves a share.
        params: stacked parameters of the layer group.

    Returns:
        The remaining parts, and the selection of a ranked drop.
    """
    if group.drop is None:
        return parts, None
    if not isinstance(group.drop, RankedDrop):
        visual = apply_drop(parts.visual, group.drop)
        length = group.visual_length(parts.lengths.visual)
        selection = None
    else:
        selection = survivors(
            group.drop,
            original_slots=original.visual.shape[1],
            original=original.lengths.visual,
            length=parts.lengths.visual,
            attention=(
                stack.attention_to_visual(params, parts) if group.drop.by_attention else None
            ),
        )
        visual, length = selection.take(parts.visual), selection.count
    lengths = dataclasses.replace(parts.lengths, visual=length)
    return dataclasses.replace(parts, visual=visual, lengths=lengths), selection
