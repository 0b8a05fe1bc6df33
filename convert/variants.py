"""Table of the published models: encoders, configurations, tensors and parameter counts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import CompressionConfig, LLMConfig, ModelConfig, VisionConfig
from xcomp_jax.convert.map import Rule, rules_for, tensor_slots
from xcomp_jax.convert.tensors import Shape
from xcomp_jax.variants import QWEN2_7B, XCOMP_2B

VISION_TOWERS: dict[str, VisionConfig] = {
    "umt-hd-large": VisionConfig(image_size=448),
    "umt-large": VisionConfig(image_size=224),
    "internvideo2": VisionConfig(
        architecture="internvideo2",
        image_size=224,
        patch_size=14,
        width=1408,
        depth=40,
        mlp_ratio=48 / 11,
        clip_frames=4,
    ),
}
"""Video encoders by the value of `mm_vision_tower`."""

HF_CONFIG: dict[str, Any] = {
    "architectures": ["VideoChatFlashQwenForCausalLM"],
    "model_type": "videochat_flash_qwen",
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "frame_aspect_ratio": "square",
    "hidden_act": "silu",
    "image_aspect_ratio": "square",
    "initializer_range": 0.02,
    "max_position_embeddings": 131072,
    "mm_llm_compress": False,
    "mm_newline_position": "nothing",
    "mm_patch_merge_type": "spatial_nopad",
    "mm_pos_num_frames": 8,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "rope_scaling": None,
    "sliding_window": None,
    "tokenizer_model_max_length": 131072,
    "tokenizer_padding_side": "right",
    "use_cache": True,
    "use_mm_proj": True,
    "use_sliding_window": False,
    "vision_encode_type": "video_image",
}
"""Keys of a published config.json beyond ModelConfig, for a model that was never converted."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: of the release.
        model: configuration.
    """

    name: str
    model: ModelConfig

    def rules(self) -> tuple[Rule, ...]:
        return rules_for(self.model)

    def shapes(self) -> dict[str, Shape]:
        """Maps the path of every parameter to its shape."""
        return param_shapes(self.model)

    def tensors(self) -> dict[str, Shape]:
        """Maps the name of every PyTorch tensor to its shape."""
        slots = tensor_slots(self.rules(), self.shapes())
        return {name: slot.shape for name, slot in slots.items()}

    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes().values())


def _base(tower: str, llm: LLMConfig) -> ModelConfig:
    # The published base models do not drop tokens inside the language model.
    return ModelConfig(
        vision=dataclasses.replace(VISION_TOWERS[tower], clip_frames=4),
        llm=llm,
        compression=CompressionConfig(schedule="none"),
    )


VARIANTS = (
    Variant("XComp-2B_res448", XCOMP_2B),
    Variant("VideoChat-Flash-Qwen2_5-2B_res448", _base("umt-hd-large", XCOMP_2B.llm)),
    Variant("VideoChat-Flash-Qwen2-7B_res448", _base("umt-hd-large", QWEN2_7B)),
    Variant("VideoChat-Flash-Qwen2-7B_res224", _base("umt-large", QWEN2_7B)),
    Variant("VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B", _base("internvideo2", QWEN2_7B)),
)


def match_variant(model: ModelConfig) -> Variant | None:
    """Returns the published model that equals `model` in all but clip length and dtype, if any."""
    for variant in VARIANTS:
        published = variant.model
        vision = dataclasses.replace(model.vision, clip_frames=published.vision.clip_frames)
        parts = (vision, model.projector, model.llm, model.compression)
        if parts == (published.vision, published.projector, published.llm, published.compression):
            return variant
    return None


def variant_table() -> str:
    """Formats the published models with their tensor and parameter counts."""
    lines = [f"{'model':<44} {'tensors':>7} {'parameters':>14}"]
    for variant in VARIANTS:
        count, total = len(variant.tensors()), variant.num_parameters()
        lines.append(f"{variant.name:<44} {count:>7} {total:>14,}")
    return "\n".join(lines)
