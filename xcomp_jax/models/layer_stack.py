"""Runs the layers of one layer group by one scan over their stacked parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from xcomp_jax.compression.ranking import attention_of_last_token
from xcomp_jax.config import KernelConfig, LLMConfig
from xcomp_jax.models.decoder_layer import DecoderLayer
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
from xcomp_jax.models.quantized import cached
from xcomp_jax.models.sequence import DeviceOrder, Layout, Parts
from xcomp_jax.ops.attention import attention
from xcomp_jax.ops.cached_attention import cached_attention
from xcomp_jax.ops.context_parallel import context_attention
from xcomp_jax.ops.rope import rope_base, rope_tables, rotate
from xcomp_jax.sharding import gathered_layer

Rotation = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class PrefillOptions:
    """keep_cache: return keys and values; collect_layers: return every layer's output; remat:
    recompute layers in the backward pass instead of storing them."""

    keep_cache: bool
    collect_layers: bool = False
    remat: bool = False


@dataclasses.dataclass(frozen=True)
class LayerStack:
    """The decoder layer and everything static that running it needs; parameters are arguments."""

    config: LLMConfig
    layer: DecoderLayer
    dtype: jnp.dtype
    kernels: KernelConfig

    def rotation(self, positions: Int[Array, "B S"]) -> Rotation:
        """Returns the function that rotates queries or keys [B, S, N, H] to `positions`."""
        cfg = self.config
        cos, sin = rope_tables(
            positions, cfg.head_dim, rope_base(cfg.rope_theta, cfg.yarn_factor), self.dtype
        )
        return lambda x: rotate(x, cos, sin)

    def prefill(
        self, variables: Any, parts: Parts, order: DeviceOrder, options: PrefillOptions
    ) -> tuple[Parts, LayerGroupCache | None, Float[Array, "L B S D"] | None]:
        """Runs one layer group over a whole sequence.

        Args:
            variables: stacked parameters of the layers, and their adapters if there are any.

        Returns:
            The parts after the last layer; the cache, with the spare slots of the layout, and the
            outputs [L, B, S, D] of all layers, without them, each None unless requested.
        """
        layout = Layout.of(parts, order)
        mask = layout.mask(parts.lengths)
        rotated = self.rotation(layout.positions(parts.lengths))

        def attend(query: Array, key: Array, value: Array) -> Any:
            key = rotated(key)
            out = self._causal_attention(rotated(query), key, value, layout, mask)
            return out, ((key, value) if options.keep_cache else None)

        def body(x: Array, layer_variables: Any) -> Any:
            params = gathered_layer("llm/layers", layer_variables["params"], self.dtype)
            x, state = self.layer.apply({**layer_variables, "params": params}, x, attend)
            x = layout.constrained(x)
            return x, (state, x if options.collect_layers else None)

        if options.remat:
            # XLA unrolls a loop of one iteration, and would then merge the recomputation with the
            # forward pass, which stores the activations after all.
            body = jax.checkpoint(body, prevent_cse=_num_layers(variables) == 1)
        x = layout.join(parts.prefix, parts.visual, parts.suffix)
        x, (state, outputs) = lax.scan(body, x, variables)
        if outputs is not None:
            outputs = outputs[:, :, : x.shape[1] - layout.spare]
        prefix, visual, suffix = layout.split(x)
        parts = dataclasses.replace(parts, prefix=prefix, visual=visual, suffix=suffix)
        if not options.keep_cache:
            return parts, None, outputs
        key, value = state
        return parts, LayerGroupCache(key, value, mask, parts.lengths.total), outputs

    def attention_to_visual(self, params: Any, parts: Parts) -> Float[Array, "B V"]:
        """Computes the prompt's last token's attention to the visual tokens.

        Args:
            params: stacked parameters of the layer group after the drop, whose first layer computes
                the attention; positions are those before the drop.
        """
        layout = Layout.of(parts, DeviceOrder())
        mask = layout.mask(parts.lengths)
        rotated = self.rotation(layout.positions(parts.lengths))

        def attend(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
            return query, attention_of_last_token(rotated(query), rotated(key), mask)

        # The layer supplies its norm and projections; its output is unused, so that the compiler
        # removes the rest.
        first = jax.tree.map(lambda leaf: leaf[0], params)
        x = layout.join(parts.prefix, parts.visual, parts.suffix)
        out: Any = self.layer.apply({"params": first}, x, attend)
        return layout.split(out[1])[1]

    def extend(
        self,
        params: Any,
        x: Float[Array, "B Q D"],
        cache: LayerGroupCache,
        text: TextCache,
        written: Int[Array, " B"],
    ) -> tuple[Float[Array, "B Q D"], TextCache]:
        """Runs one layer group over text rows after its cache.

        Args:
            text: keys and values of these layers' text; the rows go to places `written` onwards.

        Returns:
            The hidden states, and `text` with the keys and values of the rows.
        """
        first = cache.length + written
        rotated = self.rotation(first[:, None] + jnp.arange(x.shape[1])[None, :])

        def body(x: Array, layer: Any) -> Any:
            layer_params, stored_key, stored_value, layer_text = layer

            def attend(query: Array, key: Array, value: Array) -> Any:
                extended = TextCache(
                    _write_rows(layer_text.key, rotated(key), written),
                    _write_rows(layer_text.value, value, written),
                )
                out = cached_attention(
                    rotated(query),
                    (cached(stored_key, self.dtype), cached(stored_value, self.dtype)),
                    cache.mask,
                    (extended.key, extended.value),
                    written,
                    implementation=self.kernels.cached_attention,
                )
                return out, extended

            return self.layer.apply({"params": layer_params}, x, attend)

        key, value = (cache.key, cache.key_scale), (cache.value, cache.value_scale)
        return lax.scan(body, x, (params, key, value, text))

    def _causal_attention(
        self, query: Array, key: Array, value: Array, layout: Layout, mask: Array
    ) -> Array:
        """Computes causal attention over all slots, on one device or along `context`."""
        kernel = self.kernels.decoder_attention
        if layout.order.devices == 1:
            return attention(query, key, value, causal=True, key_mask=mask, implementation=kernel)
        return context_attention(
            query, key, value, key_mask=mask, pieces=layout.pieces, implementation=kernel
        )


def _num_layers(variables: Any) -> int:
    return jax.tree.leaves(variables)[0].shape[0]


def _write_rows(space: Array, rows: Array, place: Array) -> Array:
    """Writes rows [B, Q, ...] into space [B, M, ...] from each example's `place` [B] onwards."""
    return jax.vmap(lambda s, x, at: lax.dynamic_update_slice_in_dim(s, x, at, axis=0))(
        space, rows, place
    )
