"""List the measured shapes, named after the model part that uses them, and their work."""

from __future__ import annotations

import dataclasses

from xcomp_jax.ops.clip_scores import Segments

BFLOAT16_BYTES = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """Self-attention; `masked` when the sequence contains padding."""

    name: str
    batch: int
    tokens: int
    heads: int
    kv_heads: int
    size: int
    causal: bool
    masked: bool

    def flops(self, *, backward: bool) -> float:
        """Counts two products forward and five backward, without the masked half if causal."""
        product = 2.0 * self.batch * self.heads * self.size * self.tokens**2
        return product * (0.5 if self.causal else 1.0) * (7 if backward else 2)

    def nbytes(self, *, backward: bool) -> float:
        """Counts query, key, value and output once, and their gradients with `backward`."""
        rows = self.batch * self.tokens * self.size * BFLOAT16_BYTES
        once = rows * (2 * self.heads + 2 * self.kv_heads)
        return float(once * (3 if backward else 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipShape:
    """Clip scoring of one window with the heads of the 2B model."""

    name: str
    segments: Segments
    rows: int
    prefix: int = 16
    heads: int = 12
    kv_heads: int = 2
    size: int = 128

    def flops(self) -> float:
        """Counts the scores of all segments, and of the text once."""
        keys = self.segments.count * self.segments.size * self.segments.clip_tokens
        return 2.0 * self.heads * self.rows * self.size * (keys + self.prefix + self.rows)

    def nbytes(self) -> float:
        """Counts queries and keys once; the result is negligible."""
        keys = self.segments.num_clips * self.segments.clip_tokens + self.prefix + self.rows
        return float(self.size * BFLOAT16_BYTES * (self.heads * self.rows + self.kv_heads * keys))


def _decoder(name: str, tokens: int, heads: int, kv_heads: int) -> AttentionShape:
    return AttentionShape(
        name=name,
        batch=1,
        tokens=tokens,
        heads=heads,
        kv_heads=kv_heads,
        size=128,
        causal=True,
        masked=True,
    )


def _encoder(name: str, clips: int, tokens: int) -> AttentionShape:
    return AttentionShape(
        name=name,
        batch=clips,
        tokens=tokens,
        heads=16,
        kv_heads=16,
        size=64,
        causal=False,
        masked=False,
    )


ATTENTION = (
    _encoder("vit_448_clip8", 4, 6272),
    _encoder("vit_448_clip4", 8, 3136),
    _decoder("qwen2_1p5b_4k", 4096, 12, 2),
    _decoder("qwen2_1p5b_16k", 16 * 1024 + 863, 12, 2),
    _decoder("qwen2_1p5b_64k", 64 * 1024 + 863, 12, 2),
    _decoder("qwen2_7b_16k", 16 * 1024 + 863, 28, 4),
)
CLIPS = (
    ClipShape(name="scores_16_tokens", segments=Segments(72, 128, 8, 4), rows=512),
    ClipShape(name="scores_5_tokens", segments=Segments(72, 40, 8, 4), rows=512),
    ClipShape(name="scores_1_token", segments=Segments(72, 8, 8, 4), rows=512),
    ClipShape(name="scores_global", segments=Segments(72, 128, 72, 72), rows=512),
)
TINY_ATTENTION = (
    dataclasses.replace(_encoder("vit_tiny", 1, 96), heads=2, kv_heads=2),
    _decoder("qwen2_tiny", 80, 2, 1),
)
TINY_CLIPS = (
    ClipShape(name="scores_tiny", segments=Segments(12, 8, 8, 4), rows=8, heads=2, kv_heads=1),
)
