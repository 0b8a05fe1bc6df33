"""Configuration of a model: its parts, its compression, its kernels."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import jax.numpy as jnp

from xcomp_jax.config.schema import require

DType = Literal["float32", "bfloat16"]
AttentionKernel = Literal["xla", "pallas_tpu", "pallas_gpu", "cudnn"]
CachedAttentionKernel = Literal["xla", "pallas_tpu", "pallas_gpu"]
ClipScoresKernel = Literal["xla", "pallas_tpu", "pallas_gpu"]
Ranking = Literal["attention", "uniform", "uniform0_attention", "uniform1_attention"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Video encoder (docs/reference_behaviour.md#encoder); UMT-L at 448 px with 8-frame clips.

    architecture:
        `umt`, fixed position tables for any clip length; `internvideo2`, the encoder of one of the
        published 7B models, whose learned tables fit clips of exactly `clip_frames` frames (and
        single images).
    depth, select_layer:
        nominal depth of the published encoder; with `select_layer=-2` the last block is never
        built, so a checkpoint holds `num_blocks` blocks.
    final_norm_eps: of the norm that closes UMT; InternVideo2 has none.
    """

    architecture: Literal["umt", "internvideo2"] = "umt"
    image_size: int = 448
    patch_size: int = 16
    width: int = 1024
    depth: int = 24
    select_layer: int = -2
    num_heads: int = 16
    mlp_ratio: float = 4.0
    clip_frames: int = 8
    block_norm_eps: float = 1e-6
    final_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        for field in ("image_size", "patch_size", "width", "num_heads", "clip_frames"):
            value = getattr(self, field)
            require(value >= 1, f"vision.{field}={value} must be at least 1")
        require(
            self.image_size % self.patch_size == 0,
            f"vision.patch_size={self.patch_size} must divide vision.image_size={self.image_size}",
        )
        require(
            self.width % self.num_heads == 0,
            f"vision.num_heads={self.num_heads} must divide vision.width={self.width}",
        )
        channels = {"umt": 2, "internvideo2": 16}[self.architecture]
        require(
            self.width % channels == 0,
            f"vision.width={self.width} must be a multiple of {channels} for "
            f"architecture={self.architecture!r} (sine and cosine channels of its positions)",
        )
        require(
            -self.depth <= self.select_layer <= -1,
            f"vision.select_layer={self.select_layer} must lie in [-{self.depth}, -1]",
        )
        for field in ("mlp_ratio", "block_norm_eps", "final_norm_eps"):
            value = getattr(self, field)
            require(0 < value < math.inf, f"vision.{field}={value} must be positive and finite")

    @property
    def num_blocks(self) -> int:
        return self.depth + self.select_layer + 1

    @property
    def grid(self) -> int:
        """Patches along one side of a frame."""
        return self.image_size // self.patch_size

    @property
    def patches_per_frame(self) -> int:
        return self.grid * self.grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """Token merging to `tokens_per_frame` tokens a frame, then a two-layer MLP to the LLM width."""

    tokens_per_frame: int = 16

    def __post_init__(self) -> None:
        require(
            self.tokens_per_frame >= 1,
            f"projector.tokens_per_frame={self.tokens_per_frame} must be at least 1",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """Qwen2 decoder; defaults are Qwen2.5-1.5B.

    yarn_factor: multiple of the trained context of 32,768 tokens that rotation is stretched to by
        YaRN; 1 is the plain rotation.
    """

    vocab_size: int = 151936
    hidden_size: int = 1536
    intermediate_size: int = 8960
    num_hidden_layers: int = 28
    num_attention_heads: int = 12
    num_key_value_heads: int = 2
    rope_theta: float = 1_000_000.0
    yarn_factor: float = 1.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        for field in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
        ):
            value = getattr(self, field)
            require(value >= 1, f"llm.{field}={value} must be at least 1")
        for field in ("rope_theta", "rms_norm_eps"):
            value = getattr(self, field)
            require(0 < value < math.inf, f"llm.{field}={value} must be positive and finite")
        require(self.yarn_factor >= 1, f"llm.yarn_factor={self.yarn_factor} must be at least 1")
        require(
            self.hidden_size % self.num_attention_heads == 0,
            f"llm.num_attention_heads={self.num_attention_heads} must divide "
            f"llm.hidden_size={self.hidden_size}",
        )
        require(
            self.num_attention_heads % self.num_key_value_heads == 0,
            f"llm.num_key_value_heads={self.num_key_value_heads} must divide "
            f"llm.num_attention_heads={self.num_attention_heads}",
        )
        require(
            self.head_dim % 2 == 0,
            f"llm: head size {self.head_dim} = hidden_size / num_attention_heads must be even "
            "(rotary embedding rotates pairs)",
        )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """LP-Comp: tokens per frame in every layer (paper 3.2).

    schedule:
        `cosine`, the published one; `stepwise`, after `drop_after_layers[i]` layers every
        `strides[i]` tokens become one; `ranked`, not LP-Comp but the heuristic of its base model
        VideoChat-Flash (docs/reference_behaviour.md#base-model), a baseline for inference: after
        `drop_after_layers[i]` layers the fraction `ratios[i]` of the video's tokens remains;
        `none`.
    keep:
        `suffix`, each frame's last tokens (published); `uniform`, spread over the frame (the
        original without ALWAYS_SUFFIX); `average`, mean of each run of tokens (stepwise only).
    ranking:
        selection by a `ranked` schedule: `attention`, the tokens with the highest attention from
        the prompt's last token; `uniform`, tokens spread evenly over the video;
        `uniform0_attention` and `uniform1_attention`, uniform at the first drop or the first two,
        then attention.
    ratios: fractions of the video's original tokens, in descending order.
    max_distinct_lengths:
        departure from the original: at most this many different token counts over depth, so that
        a few layer bodies are compiled instead of sixteen. None keeps the published schedule.
    """

    schedule: Literal["cosine", "stepwise", "ranked", "none"] = "cosine"
    keep: Literal["suffix", "uniform", "average"] = "suffix"
    drop_after_layers: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    ranking: Ranking | None = None
    ratios: tuple[float, ...] = ()
    max_distinct_lengths: int | None = None

    def __post_init__(self) -> None:
        stepwise, ranked = self.schedule == "stepwise", self.schedule == "ranked"
        require(
            (stepwise or ranked) == bool(self.drop_after_layers),
            f"compression.drop_after_layers={self.drop_after_layers} goes with "
            "schedule='stepwise' or 'ranked' and only with them, got "
            f"schedule={self.schedule!r}",
        )
        for name, required in (("strides", stepwise), ("ratios", ranked)):
            entries, drops = getattr(self, name), self.drop_after_layers if required else ()
            require(
                len(entries) == len(drops),
                f"compression.{name}={entries} needs one entry for each of "
                f"drop_after_layers={drops} with schedule={self.schedule!r}",
            )
        require(
            ranked == (self.ranking is not None),
            f"compression.ranking={self.ranking!r} goes with schedule='ranked' and only with it, "
            f"got schedule={self.schedule!r}; known: {list(get_args(Ranking))}",
        )
        require(
            all(0 < ratio <= 1 for ratio in self.ratios)
            and list(self.ratios) == sorted(self.ratios, reverse=True),
            f"compression.ratios={self.ratios} must lie in (0, 1] and never grow: each is a "
            "fraction of the video's original tokens",
        )
        require(
            all(stride >= 2 for stride in self.strides),
            f"compression.strides={self.strides}: each must be at least 2",
        )
        require(
            self.keep != "average" or stepwise,
            "compression.keep='average' needs schedule='stepwise': a mean is taken over whole runs",
        )
        require(
            self.max_distinct_lengths is None or self.max_distinct_lengths >= 2,
            f"compression.max_distinct_lengths={self.max_distinct_lengths} must be at least 2",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """Implementation of each attention; None selects the best that supports the inputs (`ops`).

    A named implementation is never replaced by another: it runs, or raises with the reason.

    decoder_attention: whole sequences: prefill, training and scoring windows.
    cached_attention:
        text after a KV cache: question rows, for answers and scores, and decoded tokens. cuDNN is
        not supported: it returns no log-sum-exp to merge cache and text. None selects `xla` for
        single rows.
    """

    encoder_attention: AttentionKernel | None = None
    decoder_attention: AttentionKernel | None = None
    cached_attention: CachedAttentionKernel | None = None
    clip_scores: ClipScoresKernel | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that determines the shapes and the arithmetic of the model."""

    vision: VisionConfig = VisionConfig()
    projector: ProjectorConfig = ProjectorConfig()
    llm: LLMConfig = LLMConfig()
    compression: CompressionConfig = CompressionConfig()
    kernels: KernelConfig = KernelConfig()
    dtype: DType = "bfloat16"

    def __post_init__(self) -> None:
        require(
            self.vision.patches_per_frame > self.projector.tokens_per_frame,
            f"projector.tokens_per_frame={self.projector.tokens_per_frame} must be less than the "
            f"{self.vision.patches_per_frame} patches of a frame: token merging has to merge",
        )
        layers = self.llm.num_hidden_layers
        after = self.compression.drop_after_layers
        require(
            all(1 <= n < layers for n in after) and list(after) == sorted(set(after)),
            f"compression.drop_after_layers={after} must increase within [1, {layers - 1}] "
            f"for {layers} layers",
        )

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)
