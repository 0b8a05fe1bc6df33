"""Configurations of the published models and of the small demo model."""

from __future__ import annotations

import dataclasses

from xcomp_jax.config import (
    CompressionConfig,
    LLMConfig,
    ModelConfig,
    ProjectorConfig,
    SamplingConfig,
    VisionConfig,
)

XCOMP_2B = ModelConfig(
    vision=VisionConfig(),  # UMT-L at 448 px, clips of 8 frames as trained
    projector=ProjectorConfig(),
    llm=LLMConfig(),  # Qwen2.5-1.5B
    compression=CompressionConfig(),
    dtype="bfloat16",
)
"""The published model. Its released evaluation ran 4-frame clips, an oversight kept as an option:
`xcomp convert` takes the clip length from the checkpoint's own config.json."""

QWEN2_7B = LLMConfig(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)
"""Qwen2-7B and Qwen2.5-7B."""

XCOMP_7B = dataclasses.replace(XCOMP_2B, llm=QWEN2_7B)
"""LP-Comp on the larger base with the same encoder; never published."""

SMOKE = ModelConfig(
    vision=VisionConfig(
        image_size=32, patch_size=8, width=64, depth=3, num_heads=2, mlp_ratio=2.0, clip_frames=4
    ),
    # With fewer than half of a frame's 16 patches, unlike tokens would be merged.
    projector=ProjectorConfig(tokens_per_frame=10),
    # Few wide heads: attention with many narrow heads is slow on a CPU.
    llm=LLMConfig(
        vocab_size=576,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_theta=10_000.0,
    ),
    compression=CompressionConfig(),
    dtype="float32",
)
"""Every part of the published model at a size that two CPU cores train in minutes, for the built-in
tokenizer."""

SMOKE_SAMPLING = SamplingConfig(fps=4, min_frames=8, max_frames=8)
"""Two seconds of generated video at 8 frames a second: every other frame."""
