"""UMT video encoder: a ViT over the space-time patches of one clip.

As in the original (docs/reference_behaviour.md#encoder): attention bias on queries and values only,
exact GELU, fixed sine positions, the last nominal block never built (select layer -2), a closing
LayerNorm with eps 1e-12.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from xcomp_jax.config import VisionConfig
from xcomp_jax.models.gelu import gelu
from xcomp_jax.models.layer_norm import LayerNorm, Moments, moments
from xcomp_jax.models.position_tables import image_position_table, video_position_table
from xcomp_jax.models.stacked import stacked_params
from xcomp_jax.ops.attention import attention


class QKV(nn.Module):
    """Projection to queries, keys and values, whose matrices are stored side by side."""

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "C S D"]) -> tuple[Array, Array, Array]:
        """Returns queries, keys and values [C, S, {self.width}], without biases."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], 3 * self.width))
        # Three products instead of one, whose result would be cut by a pass over it.
        query, key, value = (
            jnp.dot(x, part) for part in jnp.split(kernel.astype(self.dtype), 3, axis=-1)
        )
        return query, key, value


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
        query, key, value = QKV(width, self.dtype, name="qkv")(x)
        q_bias = self.param("q_bias", nn.initializers.zeros, (width,))
        v_bias = self.param("v_bias", nn.initializers.zeros, (width,))
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
        return nn.Dense(self.out, dtype=self.dtype, name="fc2")(gelu(x))


class Block(nn.Module):
    """Pre-norm transformer block."""

    config: VisionConfig
    dtype: jnp.dtype
    kernel: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "C S D"], known: Moments
    ) -> tuple[Float[Array, "C S D"], Moments]:
        """Applies attention and MLP.

        Args:
            known: moments of x.

        Returns:
            The output and its moments, which are computed while it is written.
        """
        cfg = self.config
        normed = LayerNorm(cfg.block_norm_eps, self.dtype, name="norm1")(x, known)
        x = x + Attention(cfg, self.dtype, self.kernel, name="attn")(normed)
        normed = LayerNorm(cfg.block_norm_eps, self.dtype, name="norm2")(x, moments(x))
        hidden = int(cfg.width * cfg.mlp_ratio)
        x = x + MLP(hidden, cfg.width, self.dtype, name="mlp")(normed)
        return x, moments(x)


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
        example = x[:1, :1]
        params = stacked_params(self, "blocks", block, cfg.num_blocks, example, moments(example))

        def body(state: tuple[Array, Moments], p: Any) -> tuple[Any, None]:
            return block.apply({"params": p}, *state), None

        (x, known), _ = jax.lax.scan(body, (x, moments(x)), params)
        return LayerNorm(cfg.final_norm_eps, self.dtype, name="norm")(x, known)
