"""The published checkpoints in one table: what each holds, tensor by tensor."""

from __future__ import annotations

import dataclasses
import math

from convert import plan
from convert.internvideo2 import INTERNVIDEO2, InternVideo2Sizes
from convert.layouts import Shape
from convert.rules import LM_HEAD, PROJECTOR, QWEN2, Rule, rules_for
from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import CompressionConfig, LLMConfig, ModelConfig, VisionConfig
from xcomp_jax.variants import XCOMP_2B

QWEN2_7B = LLMConfig(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: the release's own.
        model: its configuration; the encoder in it counts only when `internvideo2` is None.
        internvideo2: the encoder when it is not UMT; such a model is listed but not built yet.
    """

    name: str
    model: ModelConfig
    internvideo2: InternVideo2Sizes | None = None

    @property
    def built(self) -> bool:
        return self.internvideo2 is None

    def rules(self) -> tuple[Rule, ...]:
        if self.internvideo2 is None:
            return rules_for(self.model)
        head = () if self.model.llm.tie_word_embeddings else LM_HEAD
        return (*QWEN2, *INTERNVIDEO2, *PROJECTOR, *head)

    def shapes(self) -> dict[str, Shape]:
        """Path -> shape of every array of ours."""
        shapes = param_shapes(self.model)
        if self.internvideo2 is None:
            return shapes
        kept = {path: s for path, s in shapes.items() if not path.startswith("vision/")}
        kept["projector/fc1/kernel"] = (self.internvideo2.width, self.model.llm.hidden_size)
        return self.internvideo2.shapes() | kept

    def tensors(self) -> dict[str, Shape]:
        """Name -> shape of every tensor of the original."""
        return {name: slot.shape for name, slot in plan.slots(self.rules(), self.shapes()).items()}

    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes().values())


def _base(size: int, llm: LLMConfig) -> ModelConfig:
    # The published base models compress nothing inside the language model by default.
    return ModelConfig(
        vision=VisionConfig(image_size=size, clip_frames=4),
        llm=llm,
        compression=CompressionConfig(schedule="none"),
    )


VARIANTS = (
    Variant("XComp-2B_res448", XCOMP_2B),
    Variant("VideoChat-Flash-Qwen2_5-2B_res448", _base(448, XCOMP_2B.llm)),
    Variant("VideoChat-Flash-Qwen2-7B_res448", _base(448, QWEN2_7B)),
    Variant("VideoChat-Flash-Qwen2-7B_res224", _base(224, QWEN2_7B)),
    Variant(
        "VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B", _base(224, QWEN2_7B), InternVideo2Sizes()
    ),
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
        if variant.built and same:
            return variant
    return None


def table() -> str:
    """The variants with their totals, for printing."""
    lines = [f"{'model':<44} {'tensors':>7} {'parameters':>14}  status"]
    for variant in VARIANTS:
        status = "built" if variant.built else "names and shapes known, encoder not built"
        count, total = len(variant.tensors()), variant.num_parameters()
        lines.append(f"{variant.name:<44} {count:>7} {total:>14,}  {status}")
    return "\n".join(lines)
