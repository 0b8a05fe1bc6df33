"""UMT video encoder: a ViT over the space-time patches of one clip.

As in the original (docs/reference_behaviour.md#encoder): attention bias on queries and values only,
exact GELU, fixed sine positions, the last nominal block never built (select layer -2), a closing
LayerNorm with eps 1e-12.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from xcomp_jax.config import VisionConfig
from xcomp_jax.models.position_tables import image_position_table, video_position_table
from xcomp_jax.models.stacked import stacked_params
from xcomp_jax.ops.attention import attention


def _layer_norm(eps: float, dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    # Two-pass variance: the one-pass form cancels when the mean is large against the spread.
    return nn.LayerNorm(epsilon=eps, dtype=dtype, use_fast_variance=False, name=name)


class Attention(nn.Module):
    """Full attention over all tokens of a clip; keys have no bias."""

    config: VisionConfig
    dtype: jnp.dtype
    kernel: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "C S D"]) -> Float[Array, "C S D"]:
        """Attends within each clip."""
        clips, length, width = x.shape
        heads = self.config.num_heads
        qkv = nn.Dense(3 * width, use_bias=False, dtype=self.dtype, name="qkv")(x)
        q_bias = self.param("q_bias", nn.initializers.zeros, (width,))
        v_bias = self.param("v_bias", nn.initializers.zeros, (width,))
        query, key, value = jnp.split(qkv, 3, axis=-1)
        query += q_bias.astype(self.dtype)[None, None, :]
        value += v_bias.astype(self.dtype)[None, None, :]
        out = attention(
            *(part.reshape(clips, length, heads, width // heads) for part in (query, key, value)),
            causal=False,
            implementation=self.kernel,
        )
        return nn.Dense(width, dtype=self.dtype, name="proj")(out.reshape(clips, length, width))


class MLP(nn.Module):
    """Two layers with the exact (erf) GELU between them."""

    hidden: int
    out: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch {self.out}"]:
        """Applies both layers to the last axis."""
        x = nn.Dense(self.hidden, dtype=self.dtype, name="fc1")(x)
        return nn.Dense(self.out, dtype=self.dtype, name="fc2")(nn.gelu(x, approximate=False))


class Block(nn.Module):
    """Pre-norm transformer block."""

    config: VisionConfig
    dtype: jnp.dtype
    kernel: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "C S D"]) -> Float[Array, "C S D"]:
        """Applies attention and MLP."""
        cfg = self.config
        norm = functools.partial(_layer_norm, cfg.block_norm_eps, self.dtype)
        x = x + Attention(cfg, self.dtype, self.kernel, name="attn")(norm("norm1")(x))
        hidden = int(cfg.width * cfg.mlp_ratio)
        return x + MLP(hidden, cfg.width, self.dtype, name="mlp")(norm("norm2")(x))


class PatchEmbed(nn.Module):
    """Projection of non-overlapping patches of single frames, as a matrix product."""

    config: VisionConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, pixels: Float[Array, "C T X X 3"]) -> Float[Array, "C S D"]:
        """Projects the patches of every frame, in the order of frames, rows and columns."""
        cfg = self.config
        side, grid = cfg.patch_size, cfg.grid
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(in_axis=(0, 1, 2)), (side, side, 3, cfg.width)
        )
        bias = self.param("bias", nn.initializers.zeros, (cfg.width,))
        clips, frames = pixels.shape[:2]
        patches = pixels.astype(self.dtype).reshape(clips, frames, grid, side, grid, side, 3)
        out = jnp.einsum("ntrpcqx,pqxd->ntrcd", patches, kernel.astype(self.dtype))
        out = out.reshape(clips, frames * grid * grid, cfg.width)
        return out + bias.astype(self.dtype)[None, None, :]


class UMTEncoder(nn.Module):
    """Encoder from clips of frames to the patch features that the projector takes."""

    config: VisionConfig
    dtype: jnp.dtype
    kernel: str | None = None

    @nn.compact
    def __call__(self, pixels: Float[Array, "C T X X 3"]) -> Float[Array, "C S D"]:
        """Encodes normalized pixels into S = T * P features.

        T is 1 for single images, which have a position table of their own.
        """
        cfg = self.config
        x = PatchEmbed(cfg, self.dtype, name="patch_embed")(pixels)
        frames = pixels.shape[1]
        table = (
            image_position_table(cfg.grid, cfg.width)
            if frames == 1
            else video_position_table(frames, cfg.grid, cfg.width)
        )
        x = x + jnp.asarray(table, self.dtype)[None]
        block = Block(cfg, self.dtype, self.kernel, parent=None)
        params = stacked_params(self, "blocks", block, cfg.num_blocks, x[:1, :1])

        def body(x: Array, p: Any) -> tuple[Any, None]:
            return block.apply({"params": p}, x), None

        x, _ = jax.lax.scan(body, x, params)
        return _layer_norm(cfg.final_norm_eps, self.dtype, "norm")(x)
