"""Qwen2 decoder with LP-Comp between its layers (paper 3.2; facts: LP-Comp in the LLM).

One definition serves training, prefill and decoding. Layers that see the same tokens form a stage
and share one scan; between stages every frame drops tokens and positions are counted anew, so the
key/value cache has another length in every stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import Array, lax

from xcomp_jax.compression.drop import apply_drop
from xcomp_jax.compression.ranking import Survivors, attention_of_last_token, survivors
from xcomp_jax.compression.schedule import RankedDrop, Stage
from xcomp_jax.config import LLMConfig
from xcomp_jax.models.rms_norm import RMSNorm
from xcomp_jax.models.rope import rope_tables, rotate
from xcomp_jax.models.sequence import Layout, Lengths
from xcomp_jax.models.stacked import split_stages, stacked_params
from xcomp_jax.ops.attention import attention, attention_with_new_keys

# (query, key, value) -> (attention output, whatever the caller keeps of key and value)
Attend = Callable[[Array, Array, Array], tuple[Array, Any]]


@flax.struct.dataclass
class StageCache:
    """Keys (rotated) and values of one stage's layers, read-only after prefill.

    key, value: [L, B, S, K, H]; mask: [B, S] bool, real tokens; length: [B], how many there are,
    which is also the position of the next token at these layers.
    """

    key: Array
    value: Array
    mask: Array
    length: Array


@flax.struct.dataclass
class NewKeys:
    """Keys and values of the tokens written since prefill: [L, B, M, K, H] for all L layers."""

    key: Array
    value: Array


@flax.struct.dataclass
class PrefillOutput:
    """Result of one pass over a whole sequence.

    prefix [B, P, D], visual [B, V', D], suffix [B, Q, D]: final hidden states after the last norm,
    V' being what compression left; lengths: real tokens of each; cache: one entry per stage, or
    None when it was not asked for; layers: when collected, per stage the output of each of its
    layers [L, B, S, D]; survivors: collected likewise, per stage what a ranked drop left before it.
    """

    prefix: Array
    visual: Array
    suffix: Array
    lengths: Lengths
    cache: tuple[StageCache, ...] | None
    layers: tuple[Array, ...] | None
    survivors: tuple[Survivors | None, ...] | None


class SelfAttention(nn.Module):
    """Grouped-query attention; biases on q, k and v only."""

    config: LLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, cos: Array, sin: Array, attend: Attend) -> tuple[Array, Any]:
        """[B, S, D] -> [B, S, D] and what `attend` keeps."""
        cfg = self.config

        def heads(name: str, count: int) -> Array:
            out = nn.Dense(count * cfg.head_dim, dtype=self.dtype, name=name)(x)
            return out.reshape(*x.shape[:2], count, cfg.head_dim)

        query = rotate(heads("q_proj", cfg.num_attention_heads), cos, sin)
        key = rotate(heads("k_proj", cfg.num_key_value_heads), cos, sin)
        out, kept = attend(query, key, heads("v_proj", cfg.num_key_value_heads))
        out = out.reshape(*x.shape[:2], cfg.hidden_size)
        return nn.Dense(cfg.hidden_size, use_bias=False, dtype=self.dtype, name="o_proj")(out), kept


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    config: LLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, S, D] -> [B, S, D]."""

        def dense(size: int, name: str) -> nn.Dense:
            return nn.Dense(size, use_bias=False, dtype=self.dtype, name=name)

        hidden = self.config.intermediate_size
        gated = nn.silu(dense(hidden, "gate_proj")(x)) * dense(hidden, "up_proj")(x)
        return dense(self.config.hidden_size, "down_proj")(gated)


class DecoderLayer(nn.Module):
    """Pre-norm attention and MLP."""

    config: LLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, cos: Array, sin: Array, attend: Attend) -> tuple[Array, Any]:
        """[B, S, D] -> [B, S, D] and what `attend` keeps."""
        cfg = self.config
        normed = RMSNorm(cfg.rms_norm_eps, self.dtype, name="input_layernorm")(x)
        out, kept = SelfAttention(cfg, self.dtype, name="self_attn")(normed, cos, sin, attend)
        x = x + out
        normed = RMSNorm(cfg.rms_norm_eps, self.dtype, name="post_attention_layernorm")(x)
        return x + SwiGLU(cfg, self.dtype, name="mlp")(normed), kept


class Qwen2Decoder(nn.Module):
    """Embedding, staged decoder layers, final norm and head.

    `stages` comes from `compression.schedule.plan_stages`.
    """

    config: LLMConfig
    stages: tuple[Stage, ...]
    dtype: jnp.dtype

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
        angle = jnp.zeros((1, 1, cfg.head_dim), self.dtype)
        self.layers = stacked_params(
            self,
            "layers",
            self.layer,
            cfg.num_hidden_layers,
            example,
            angle,
            angle,
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
        """
        cfg = self.config
        caches: list[StageCache] = []
        collected: list[Array] = []
        chosen: list[Survivors | None] = []
        original_slots, original = visual.shape[1], lengths.visual
        parts = split_stages(self.layers, [stage.num_layers for stage in self.stages])
        for stage, params in zip(self.stages, parts, strict=True):
            left = None
            if isinstance(stage.drop, RankedDrop):
                left = survivors(
                    stage.drop,
                    original_slots=original_slots,
                    original=original,
                    length=lengths.visual,
                    attention=(
                        self._attention_to_visual(params, prefix, visual, suffix, lengths)
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
            layout = Layout(prefix.shape[1], visual.shape[1], suffix.shape[1])
            mask = layout.mask(lengths)
            cos, sin = rope_tables(
                layout.positions(lengths), cfg.head_dim, cfg.rope_theta, self.dtype
            )

            def attend(query: Array, key: Array, value: Array, mask: Array = mask) -> Any:
                out = attention(query, key, value, causal=True, key_mask=mask)
                return out, ((key, value) if keep_cache else None)

            def body(x: Array, p: Any, cos: Array = cos, sin: Array = sin, attend: Attend = attend):
                x, kept = self.layer.apply({"params": p}, x, cos, sin, attend)
                return x, (kept, x if collect_layers else None)

            scan_body = jax.checkpoint(body, prevent_cse=False) if remat else body
            x = jnp.concatenate([prefix, visual, suffix], axis=1)
            x, (kept, outputs) = lax.scan(scan_body, x, params)
            prefix, visual, suffix = layout.split(x)
            if keep_cache:
                key, value = kept
                caches.append(StageCache(key, value, mask, lengths.total))
            if collect_layers:
                collected.append(outputs)
        return PrefillOutput(
            prefix=self.norm(prefix),
            visual=self.norm(visual),
            suffix=self.norm(suffix),
            lengths=lengths,
            cache=tuple(caches) if keep_cache else None,
            layers=tuple(collected) if collect_layers else None,
            survivors=tuple(chosen) if collect_layers else None,
        )

    def _attention_to_visual(
        self, params: Any, prefix: Array, visual: Array, suffix: Array, lengths: Lengths
    ) -> Array:
        """[B, V] attention of the prompt's last token, as the first layer of `params` computes it.

        `params` are the stacked ones of the stage that follows; positions are those before its
        drop.
        """
        cfg = self.config
        layout = Layout(prefix.shape[1], visual.shape[1], suffix.shape[1])
        mask = layout.mask(lengths)
        cos, sin = rope_tables(layout.positions(lengths), cfg.head_dim, cfg.rope_theta, self.dtype)

        def attend(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
            return query, attention_of_last_token(query, key, mask)

        # The layer's own norm and projections; its output is not used, so the compiler drops the
        # rest.
        first = jax.tree.map(lambda leaf: leaf[0], params)
        x = jnp.concatenate([prefix, visual, suffix], axis=1)
        out: Any = self.layer.apply({"params": first}, x, cos, sin, attend)
        return layout.split(out[1])[1]

    def empty_new_keys(self, batch: int, max_new_tokens: int) -> NewKeys:
        """Room for `max_new_tokens` decoded tokens at every layer."""
        cfg = self.config
        shape = (
            cfg.num_hidden_layers,
            batch,
            max_new_tokens,
            cfg.num_key_value_heads,
            cfg.head_dim,
        )
        return NewKeys(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def decode(
        self, token: Array, step: Array, cache: tuple[StageCache, ...], new: NewKeys
    ) -> tuple[Array, NewKeys]:
        """Appends one token per example: token [B] int32 written at place `step` of `new`.

        The position at each stage is that stage's own cache length plus `step`.

        Returns:
            logits [B, vocab] float32 that follow the token, and `new` with its keys and values.
        """
        cfg = self.config
        x = self.embed(token[:, None])
        new_mask = jnp.broadcast_to(
            jnp.arange(new.key.shape[2]) <= step, (token.shape[0], new.key.shape[2])
        )
        sizes = [stage.num_layers for stage in self.stages]
        updated = []
        for stage_cache, params, stage_new in zip(
            cache, split_stages(self.layers, sizes), split_stages(new, sizes), strict=True
        ):
            position = (stage_cache.length + step)[:, None]
            cos, sin = rope_tables(position, cfg.head_dim, cfg.rope_theta, self.dtype)

            def body(
                x: Array,
                layer: Any,
                cos: Array = cos,
                sin: Array = sin,
                cached_mask: Array = stage_cache.mask,
            ):
                p, cached_key, cached_value, new_layer = layer

                def attend(query: Array, key: Array, value: Array) -> Any:
                    written = NewKeys(
                        lax.dynamic_update_slice_in_dim(new_layer.key, key, step, axis=1),
                        lax.dynamic_update_slice_in_dim(new_layer.value, value, step, axis=1),
                    )
                    out = attention_with_new_keys(
                        query,
                        (cached_key, cached_value),
                        cached_mask,
                        (written.key, written.value),
                        new_mask,
                    )
                    return out, written

                return self.layer.apply({"params": p}, x, cos, sin, attend)

            x, written = lax.scan(body, x, (params, stage_cache.key, stage_cache.value, stage_new))
            updated.append(written)
        new = jax.tree.map(lambda *layers: jnp.concatenate(layers), *updated)
        return self.logits(self.norm(x))[:, 0], new
