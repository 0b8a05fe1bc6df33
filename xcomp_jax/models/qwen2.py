"""Qwen2 decoder with LP-Comp between its layers (paper 3.2; facts: LP-Comp in the LLM).

One definition serves training, prefill and decoding. Layers that see the same tokens form a stage
and share one scan; between stages every frame drops tokens and positions are counted anew, so the
key/value cache has another length in every stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.ranking import Survivors, attention_of_last_token, survivors
from xcomp_jax.compression.schedule import LayerGroup, RankedDrop
from xcomp_jax.config import KernelConfig, LLMConfig
from xcomp_jax.models.context_split import context_split
from xcomp_jax.models.decoder_layer import Attend, DecoderLayer
from xcomp_jax.models.decoder_state import LayerGroupCache, PrefillOutput, TextCache
from xcomp_jax.models.rms_norm import RMSNorm
from xcomp_jax.models.sequence import Layout, Lengths
from xcomp_jax.models.stacked import split_layer_groups, stacked_params
from xcomp_jax.ops.attention import attention
from xcomp_jax.ops.cached_attention import cached_attention
from xcomp_jax.ops.context_parallel import context_attention
from xcomp_jax.ops.rope import rope_tables, rotate
from xcomp_jax.sharding import constrained, gathered_layer

Rotation = Callable[[Array], Array]


class Qwen2Decoder(nn.Module):
    """Embedding, staged decoder layers, final norm and head.

    `stages` comes from `compression.schedule.plan_layer_groups`.
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
            # Qwen2's own spread; a token that training never met must not shout.
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

    def embed(self, ids: Array) -> Array:
        """[B, S] token ids -> [B, S, D]."""
        return self.embed_tokens(ids)

    def logits(self, hidden: Array) -> Array:
        """[..., D] final hidden states -> [..., vocab] float32."""
        if self.config.tie_word_embeddings:
            table = self.embed_tokens.embedding.astype(self.dtype)
            return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
        return self.lm_head(hidden).astype(jnp.float32)

    def output_table(self) -> Array:
        """[vocab, D] float32, the rows that `logits` multiplies by."""
        if self.config.tie_word_embeddings:
            return self.embed_tokens.embedding
        return self.lm_head.variables["params"]["kernel"].T

    def prefill(
        self,
        prefix: Array,
        visual: Array,
        suffix: Array,
        lengths: Lengths,
        *,
        keep_cache: bool,
        collect_layers: bool = False,
        remat: bool = False,
    ) -> PrefillOutput:
        """Runs all layers over embedded prefix [B, P, D], visual [B, V, D] and suffix [B, Q, D].

        Args:
            lengths: real tokens of each part.
            keep_cache: return keys and values for decoding.
            collect_layers: return every layer's output and which tokens ranked drops left (parity
                tests, figures).
            remat: recompute layers in the backward pass instead of storing them.

        On a mesh with `context` the sequence is split over its devices; caches are then in the
        order of devices, and layers cannot be collected.

        Raises:
            ConfigError: `context` and a ranked schedule.
        """
        dealt = context_split(self.layer_groups, visual.shape[1])
        assert not collect_layers or dealt.share.devices == 1, "tokens are out of order"
        texts = prefix.shape[1], suffix.shape[1]
        prefix, visual, suffix = dealt.text(prefix), dealt.video(visual), dealt.text(suffix)
        caches: list[LayerGroupCache] = []
        collected: list[Array] = []
        chosen: list[Survivors | None] = []
        original_slots, original = visual.shape[1], lengths.visual
        for stage, variables in zip(self.layer_groups, self._layer_variables(), strict=True):
            left = None
            if isinstance(stage.drop, RankedDrop):
                left = survivors(
                    stage.drop,
                    original_slots=original_slots,
                    original=original,
                    length=lengths.visual,
                    attention=(
                        self._attention_to_visual(
                            variables["params"], prefix, visual, suffix, lengths
                        )
                        if stage.drop.by_attention
                        else None
                    ),
                )
                visual = left.take(visual)
                lengths = dataclasses.replace(lengths, visual=left.count)
            elif stage.drop is not None:
                visual = apply_drop(visual, stage.drop)
                visual_length = stage.visual_length(lengths.visual)
                lengths = dataclasses.replace(lengths, visual=visual_length)
            chosen.append(left)
            layout = Layout(prefix.shape[1], visual.shape[1], suffix.shape[1], dealt.share)
            mask = layout.mask(lengths)
            rotated = self.rotation(layout.positions(lengths))

            def attend(
                query: Array,
                key: Array,
                value: Array,
                layout: Layout = layout,
                mask: Array = mask,
                rotated: Rotation = rotated,
            ) -> Any:
                key = rotated(key)
                out = self._attention(rotated(query), key, value, layout, mask)
                return out, ((key, value) if keep_cache else None)

            def body(x: Array, p: Any, attend: Attend = attend, layout: Layout = layout) -> Any:
                whole = gathered_layer("llm/layers", p["params"], self.dtype)
                x, kept = self.layer.apply({**p, "params": whole}, x, attend)
                x = layout.constrained(x)
                return x, (kept, x if collect_layers else None)

            if remat:
                # XLA takes a loop of one turn apart, and would then find what the backward pass
                # recomputes already there: kept after all.
                body = jax.checkpoint(body, prevent_cse=stage.num_layers == 1)
            x = layout.join(prefix, visual, suffix)
            x, (kept, outputs) = lax.scan(body, x, variables)
            prefix, visual, suffix = layout.split(x)
            if keep_cache:
                key, value = kept
                caches.append(LayerGroupCache(key, value, mask, lengths.total))
            if collect_layers:
                collected.append(outputs)
        # Whole on every device before slots are cut off: XLA's partitioner loses the gradient of
        # the last row where a cut leaves devices of `context` and `tensor` unequal shares.
        prefix, suffix = constrained(prefix), constrained(suffix)
        return PrefillOutput(
            prefix=self.norm(prefix[:, : texts[0]]),
            visual=self.norm(dealt.share.to_tokens(visual)),
            suffix=self.norm(suffix[:, : texts[1]]),
            lengths=lengths,
            cache=tuple(caches) if keep_cache else None,
            layers=tuple(collected) if collect_layers else None,
            survivors=tuple(chosen) if collect_layers else None,
        )

    def _attention(
        self, query: Array, key: Array, value: Array, layout: Layout, mask: Array
    ) -> Array:
        """Causal attention over the slots of `layout`, wherever they are."""
        kernel = self.kernels.decoder_attention
        if layout.share.devices == 1:
            return attention(query, key, value, causal=True, key_mask=mask, implementation=kernel)
        return context_attention(
            query, key, value, key_mask=mask, pieces=layout.pieces, implementation=kernel
        )

    def rotation(self, positions: Array) -> Rotation:
        """Turns queries or keys [B, S, N, H] to `positions` [B, S]."""
        cfg = self.config
        cos, sin = rope_tables(positions, cfg.head_dim, cfg.rope_theta, self.dtype)
        return lambda x: rotate(x, cos, sin)

    def split(self, layer_groups: Sequence[LayerGroup]) -> list[Any]:
        """Parameters of each stage; later layers than those are left out."""
        sizes = [stage.num_layers for stage in layer_groups]
        unused = self.config.num_hidden_layers - sum(sizes)
        return split_layer_groups(self.layers, [*sizes, unused])[: len(sizes)]

    def _layer_variables(self) -> list[Any]:
        """What each stage applies `self.layer` with: parameters, and adapters if there are any."""
        variables = {"params": self.layers}
        if self.has_variable("lora", "layers"):
            variables["lora"] = self.get_variable("lora", "layers")
        return split_layer_groups(variables, [stage.num_layers for stage in self.layer_groups])

    def _attention_to_visual(
        self, params: Any, prefix: Array, visual: Array, suffix: Array, lengths: Lengths
    ) -> Array:
        """[B, V] attention of the prompt's last token, as the first layer of `params` computes it.

        `params` are the stacked ones of the stage that follows; positions are those before its
        drop.
        """
        layout = Layout(prefix.shape[1], visual.shape[1], suffix.shape[1])
        mask = layout.mask(lengths)
        rotated = self.rotation(layout.positions(lengths))

        def attend(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
            return query, attention_of_last_token(rotated(query), rotated(key), mask)

        # The layer's own norm and projections; its output is not used, so the compiler drops the
        # rest.
        first = jax.tree.map(lambda leaf: leaf[0], params)
        x = jnp.concatenate([prefix, visual, suffix], axis=1)
        out: Any = self.layer.apply({"params": first}, x, attend)
        return layout.split(out[1])[1]

    def empty_text_cache(self, batch: int, room: int) -> TextCache:
        """Room for `room` tokens of text after the cache, at every layer."""
        cfg = self.config
        shape = (cfg.num_hidden_layers, batch, room, cfg.num_key_value_heads, cfg.head_dim)
        return TextCache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def extend(
        self, x: Array, written: Array, cache: tuple[LayerGroupCache, ...], new: TextCache
    ) -> tuple[Array, TextCache]:
        """Appends text to a cached sequence: question rows, or one decoded token.

        The position at each stage is that stage's own cache length plus the place in `new`.

        Args:
            x: [B, Q, D] embedded rows. Rows behind an example's real ones may be padding: what they
                leave in `new` is overwritten before any later row looks there.
            written: [B] int32, tokens already in `new`; the rows take the next Q places.

        Returns:
            Final hidden states [B, Q, D] after the last norm, and `new` with the rows' keys.
        """
        sizes = [stage.num_layers for stage in self.layer_groups]
        updated = []
        for stage_cache, params, stage_new in zip(
            cache,
            split_layer_groups(self.layers, sizes),
            split_layer_groups(new, sizes),
            strict=True,
        ):
            first = stage_cache.length + written
            rotated = self.rotation(first[:, None] + jnp.arange(x.shape[1]))

            def body(
                x: Array,
                layer: Any,
                rotated: Rotation = rotated,
                cached_mask: Array = stage_cache.mask,
            ) -> Any:
                p, cached_key, cached_value, new_layer = layer

                def attend(query: Array, key: Array, value: Array) -> Any:
                    filled = TextCache(
                        _write_rows(new_layer.key, rotated(key), written),
                        _write_rows(new_layer.value, value, written),
                    )
                    cached, new = (cached_key, cached_value), (filled.key, filled.value)
                    out = cached_attention(
                        rotated(query),
                        cached,
                        cached_mask,
                        new,
                        written,
                        implementation=self.kernels.cached_attention,
                    )
                    return out, filled

                return self.layer.apply({"params": p}, x, attend)

            x, filled = lax.scan(body, x, (params, stage_cache.key, stage_cache.value, stage_new))
            updated.append(filled)
        new = jax.tree.map(lambda *layers: jnp.concatenate(layers), *updated)
        return self.norm(x), new


def _write_rows(room: Array, rows: Array, place: Array) -> Array:
    """Writes rows [B, Q, ...] into room [B, M, ...] from each example's own `place` [B] on."""
    return jax.vmap(lambda r, x, at: lax.dynamic_update_slice_in_dim(r, x, at, axis=0))(
        room, rows, place
    )
