"""The published checkpoints in one table: what each holds, tensor by tensor."""

from __future__ import annotations

import dataclasses
import math

from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import CompressionConfig, LLMConfig, ModelConfig
from xcomp_jax.convert import plan
from xcomp_jax.convert.hf_config import VISION_TOWERS
from xcomp_jax.convert.layouts import Shape
from xcomp_jax.convert.rules import Rule, rules_for
from xcomp_jax.variants import QWEN2_7B, XCOMP_2B


@dataclasses.dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: the release's own.
        model: its configuration.
    """

    name: str
    model: ModelConfig

    def rules(self) -> tuple[Rule, ...]:
        return rules_for(self.model)

    def shapes(self) -> dict[str, Shape]:
        """Path -> shape of every array of ours."""
        return param_shapes(self.model)

    def tensors(self) -> dict[str, Shape]:
        """Name -> shape of every tensor of the original."""
        return {name: slot.shape for name, slot in plan.slots(self.rules(), self.shapes()).items()}

    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes().values())


def _base(tower: str, llm: LLMConfig) -> ModelConfig:
    # The published base models compress nothing inside the language model by default.
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
    """The first published model with the same encoder input, language model and compression."""
    for variant in VARIANTS:
        known = variant.model
        same = (
            dataclasses.replace(model.vision, clip_frames=known.vision.clip_frames) == known.vision
            and (model.projector, model.llm) == (known.projector, known.llm)
            and model.compression == known.compression
        )
        if same:
            return variant
    return None


def table() -> str:
    """The variants with their totals, for printing."""
    lines = [f"{'model':<44} {'tensors':>7} {'parameters':>14}"]
    for variant in VARIANTS:
        count, total = len(variant.tensors()), variant.num_parameters()
        lines.append(f"{variant.name:<44} {count:>7} {total:>14,}")
    return "\n".join(lines)
