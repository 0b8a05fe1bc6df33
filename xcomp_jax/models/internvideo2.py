"""InternVideo2 video encoder of one of the published 7B base models.

Unlike UMT: a class token that joins the attention and is then dropped, learned positions, RMS norms
also over whole queries and keys, a learned scale on every residual branch, no closing norm
(docs/reference_behaviour.md#encoder).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from xcomp_jax.config import VisionConfig
from xcomp_jax.models.rms_norm import RMSNorm
from xcomp_jax.models.stacked import stacked_params
from xcomp_jax.models.umt import MLP, QKV, PatchEmbed
from xcomp_jax.ops.attention import attention

# Residual branches of a fresh model contribute almost nothing.
LAYER_SCALE = 1e-5


def position_table(frames: int, grid: int, width: int) -> np.ndarray:
    """Computes the initial positions of a fresh model, [1 + frames * grid * grid, width] float32.

    The first row, the class token's, is zero. A quarter of the channels encodes the frame, three
    eighths the column, three eighths the row; each part holds all sines, then all cosines.
    """

    def waves(places: np.ndarray, channels: int) -> np.ndarray:
        frequency = 10000.0 ** (-np.arange(channels // 2) / (channels // 2))
        angle = places.reshape(-1, 1) * frequency
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    frame, row, column = np.indices((frames, grid, grid))
    parts = [
        waves(frame, width // 4),
        waves(column, width * 3 // 8),
        waves(row, width * 3 // 8),
    ]
    table = np.concatenate(parts, axis=1)
    return np.concatenate([np.zeros((1, width)), table]).astype(np.float32)


class LayerScale(nn.Module):
    """One learned factor for each channel."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Scales the last axis."""
        scale = self.param("scale", nn.initializers.constant(LAYER_SCALE), (x.shape[-1],))
        return x * jnp.expand_dims(scale.astype(self.dtype), tuple(range(x.ndim - 1)))


class Attention(nn.Module):
    """Full attention over a clip; queries and keys are normalized before the split into heads."""

    config: VisionConfig
    dtype: jnp.dtype
    kernel: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "C S D"]) -> Float[Array, "C S D"]:
        """Attends within each clip."""
        cfg = self.config
        query, key, value = QKV(cfg.width, self.dtype, name="qkv")(x)
        query = RMSNorm(cfg.block_norm_eps, self.dtype, name="q_norm")(query)
        key = RMSNorm(cfg.block_norm_eps, self.dtype, name="k_norm")(key)
        heads = (*x.shape[:2], cfg.num_heads, cfg.width // cfg.num_heads)
        out = attention(
            *(part.reshape(heads) for part in (query, key, value)),
            causal=False,
            implementation=self.kernel,
        )
        return nn.Dense(cfg.width, dtype=self.dtype, name="proj")(out.reshape(x.shape))


class Block(nn.Module):
    """Pre-norm transformer block with scaled residual branches."""

    config: VisionConfig
    dtype: jnp.dtype
    kernel: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "C S D"]) -> Float[Array, "C S D"]:
        """Applies attention and MLP."""
        cfg = self.config
        normed = RMSNorm(cfg.block_norm_eps, self.dtype, name="norm1")(x)
        out = Attention(cfg, self.dtype, self.kernel, name="attn")(normed)
        x = x + LayerScale(self.dtype, name="ls1")(out)
        normed = RMSNorm(cfg.block_norm_eps, self.dtype, name="norm2")(x)
        out = MLP(int(cfg.width * cfg.mlp_ratio), cfg.width, self.dtype, name="mlp")(normed)
        return x + LayerScale(self.dtype, name="ls2")(out)


class InternVideo2Encoder(nn.Module):
    """Encoder from clips of frames to the patch features that the projector takes."""

    config: VisionConfig
    dtype: jnp.dtype
    kernel: str | None = None

    @nn.compact
    def __call__(self, pixels: Float[Array, "C T X X 3"]) -> Float[Array, "C S D"]:
        """Encodes normalized pixels into S = T * P features.

        T is `clip_frames`, or 1 for single images, which have a position table of their own.

        Raises:
            ValueError: clips of another length.
        """
        cfg = self.config
        frames = pixels.shape[1]
        if frames not in (1, cfg.clip_frames):
            raise ValueError(
                f"clips of {frames} frames: this encoder has learned positions for "
                f"vision.clip_frames={cfg.clip_frames} and for single images only"
            )
        x = PatchEmbed(cfg, self.dtype, name="patch_embed")(pixels)
        cls_token = self.param("cls_token", nn.initializers.normal(0.02), (cfg.width,))
        tables = {
            name: self.param(name, _fresh, length, cfg.grid, cfg.width)
            for name, length in (("pos_embed", cfg.clip_frames), ("img_pos_embed", 1))
        }
        first = jnp.broadcast_to(cls_token.astype(self.dtype), (x.shape[0], 1, cfg.width))
        x = jnp.concatenate([first, x], axis=1)
        x = x + tables["img_pos_embed" if frames == 1 else "pos_embed"].astype(self.dtype)[None]
        block = Block(cfg, self.dtype, self.kernel, parent=None)
        params = stacked_params(self, "blocks", block, cfg.num_blocks, x[:1, :1])

        def body(x: Array, p: Any) -> tuple[Any, None]:
            return block.apply({"params": p}, x), None

        x, _ = jax.lax.scan(body, x, params)
        return x[:, 1:]


def _fresh(key: Array, frames: int, grid: int, width: int) -> Array:
    del key  # part of an initializer's signature; this one is deterministic
    return jnp.asarray(position_table(frames, grid, width))
