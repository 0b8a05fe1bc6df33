"""One layer of Qwen2. What attention looks at is the caller's: training, cache or scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from xcomp_jax.config import LLMConfig
from xcomp_jax.models.rms_norm import RMSNorm

# (query, key, value), all before rotation -> (attention output, whatever the caller keeps)
Attend = Callable[[Array, Array, Array], tuple[Array, Any]]


class SelfAttention(nn.Module):
    """Grouped-query attention; biases on q, k and v only."""

    config: LLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, attend: Attend) -> tuple[Array, Any]:
        """[B, S, D] -> [B, S, D] and what `attend` keeps."""
        cfg = self.config

        def heads(name: str, count: int) -> Array:
            out = nn.Dense(count * cfg.head_dim, dtype=self.dtype, name=name)(x)
            return out.reshape(*x.shape[:2], count, cfg.head_dim)

        out, kept = attend(
            heads("q_proj", cfg.num_attention_heads),
            heads("k_proj", cfg.num_key_value_heads),
            heads("v_proj", cfg.num_key_value_heads),
        )
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
    def __call__(self, x: Array, attend: Attend) -> tuple[Array, Any]:
        """[B, S, D] -> [B, S, D] and what `attend` keeps."""
        cfg = self.config
        normed = RMSNorm(cfg.rms_norm_eps, self.dtype, name="input_layernorm")(x)
        out, kept = SelfAttention(cfg, self.dtype, name="self_attn")(normed, attend)
        x = x + out
        normed = RMSNorm(cfg.rms_norm_eps, self.dtype, name="post_attention_layernorm")(x)
        return x + SwiGLU(cfg, self.dtype, name="mlp")(normed), kept
