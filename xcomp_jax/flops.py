"""Floating-point operations of the model, counted from shapes.

The compiler counts the body of a scan once and does not count kernels, so its count only serves to
check these on small unrolled programs. A multiplication and an addition are two operations; norms,
activations and softmax are left out (a few per cent at real sizes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from xcomp_jax.compression.schedule import LayerGroup, plan_layer_groups
from xcomp_jax.config import TRAINABLE_PARTS, LLMConfig, ModelConfig, StageConfig, VisionConfig
from xcomp_jax.selection.plan import ScoringPlan


def encoder_flops(config: ModelConfig) -> int:
    """Counts one clip through the video encoder (without token merging) and the projector."""
    vision = config.vision
    tokens = vision.clip_frames * vision.patches_per_frame
    patch = 2 * tokens * 3 * vision.patch_size**2 * vision.width
    return patch + vision.num_blocks * _vision_block(vision, tokens) + _projector(config)


def _projector(config: ModelConfig) -> int:
    """Counts one clip's merged tokens through the two layers."""
    merged = config.vision.clip_frames * config.projector.tokens_per_frame
    size = config.llm.hidden_size
    return 2 * merged * size * (config.vision.width + size)


def _vision_block(vision: VisionConfig, tokens: int) -> int:
    linear = 2 * tokens * vision.width**2 * (4 + 2 * vision.mlp_ratio)
    return int(linear + 4 * tokens * tokens * vision.width)


@dataclasses.dataclass(frozen=True)
class Rows:
    """`rows` tokens of a layer, which attend to `pairs` keys in total."""

    rows: int
    pairs: float

    @classmethod
    def causal(cls, rows: int, *, before: int = 0, as_computed: bool = False) -> Rows:
        """Counts rows that attend to `before` keys and causally to each other.

        Args:
            as_computed: count the masked half too, as in a program that computes it.
        """
        own = rows * rows if as_computed else rows * (rows + 1) / 2
        return cls(rows, rows * before + own)


def layer_flops(llm: LLMConfig, work: Rows) -> int:
    """Counts one decoder layer."""
    size, kv_size = llm.hidden_size, llm.num_key_value_heads * llm.head_dim
    weights = 2 * size * size + 2 * size * kv_size + 3 * size * llm.intermediate_size
    return int(2 * work.rows * weights + 4 * work.pairs * size)


def prefill_flops(
    config: ModelConfig,
    layer_groups: Sequence[LayerGroup],
    *,
    text: int,
    visual: int,
    as_computed: bool = False,
) -> int:
    """Counts the decoder (without head) over text and visual tokens that LP-Comp reduces.

    Args:
        layer_groups: without ranked drops.
    """
    total = 0
    for group in layer_groups:
        visual = group.visual_length(visual)
        work = Rows.causal(text + visual, as_computed=as_computed)
        total += group.num_layers * layer_flops(config.llm, work)
    return total


def reading_flops(
    config: ModelConfig,
    layer_groups: Sequence[LayerGroup],
    *,
    before: int,
    visual: int,
    rows: int,
    as_computed: bool = False,
) -> int:
    """Counts the decoder (without head) over text `rows` after a cached video."""
    total = 0
    for group in layer_groups:
        visual = group.visual_length(visual)
        work = Rows.causal(rows, before=before + visual, as_computed=as_computed)
        total += group.num_layers * layer_flops(config.llm, work)
    return total


def scoring_flops(config: ModelConfig, plan: ScoringPlan, *, rows: int) -> int:
    """Counts the scores of one window: question rows against the keys of every segment."""
    total = 0
    for group in plan.groups:
        if group.segments is not None:
            segments, text_rows = group.segments, rows + group.leftover
            keys = plan.prefix_length + segments.size * segments.clip_tokens + text_rows
            pairs = segments.count * text_rows * keys
            total += group.layers.num_layers * 2 * pairs * config.llm.hidden_size
    return total


@dataclasses.dataclass(frozen=True)
class TrainingFlops:
    """Operations of one example, forward and backward.

    encoder: the video encoder, zero when its tokens come from a store; model: all necessary
    operations, including the encoder, the basis of MFU; recomputed: the operations that remat adds.
    """

    encoder: int
    model: int
    recomputed: int


def training_flops(
    config: ModelConfig, stage: StageConfig, *, frames: int, text: int, encoded: bool = False
) -> TrainingFlops:
    """Counts one example of `frames` frames and `text` tokens around them.

    A product costs as much forward as for each of its two gradients. A frozen part has no gradient
    of its weights, and one of its inputs only if a part before it is trained; LoRA's additions are
    left out. Logits are counted at text rows and at the one before the text that follows the video.

    Args:
        config: with the stage's compression.
        encoded: merged features come from a store instead of the encoder.
    """
    clips = frames // config.vision.clip_frames
    projector = clips * _projector(config)
    encoder = _passes(stage, "vision") * (clips * encoder_flops(config) - projector)
    encoder = 0 if encoded else encoder
    layer_groups = plan_layer_groups(
        stage.compression,
        num_layers=config.llm.num_hidden_layers,
        tokens_per_frame=config.projector.tokens_per_frame,
    )
    visual = frames * config.projector.tokens_per_frame
    decoder = prefill_flops(config, layer_groups, text=text, visual=visual)
    head = 2 * (text + 1) * config.llm.hidden_size * config.llm.vocab_size
    return TrainingFlops(
        encoder=encoder,
        model=encoder
        + _passes(stage, "projector") * projector
        + _passes(stage, "llm") * (decoder + head),
        recomputed=decoder if stage.remat else 0,
    )


def _passes(stage: StageConfig, part: str) -> int:
    """Counts the passes of a part: forward, gradient of its inputs, gradient of its weights."""
    learns = part in stage.trainable
    if learns and not (part == "llm" and stage.lora is not None):
        return 3
    before = TRAINABLE_PARTS[: TRAINABLE_PARTS.index(part)]
    return 2 if learns or any(name in stage.trainable for name in before) else 1
