"""Which tensor of the original is which of ours: a table, nothing else.

`{n}` in a source name counts the blocks of a stack; our array of that rule carries them on a
leading axis. Shapes are not repeated here: the model has them (`param_shapes`) and `convert.plan`
compares. A further encoder is a further tuple of rules and one entry in `ENCODERS`.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.layouts import COPY, LINEAR, PATCH, POSITIONS, TOKEN, Layout


@dataclasses.dataclass(frozen=True)
class Rule:
    """`source` is a name of the original, `target` a path of our parameter tree."""

    source: str
    target: str
    layout: Layout = COPY

    @property
    def stacked(self) -> bool:
        return "{n}" in self.source

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.source).replace(r"\{n\}", r"[0-9]+"))

    def source_name(self, block: int) -> str:
        return self.source.replace("{n}", str(block))


_TOWER = "model.vision_tower.vision_tower."
_UMT = _TOWER + "encoder."
_UMT_BLOCK = _UMT + "blocks.{n}."

UMT = (
    Rule(_UMT + "patch_embed.proj.weight", "vision/patch_embed/kernel", PATCH),
    Rule(_UMT + "patch_embed.proj.bias", "vision/patch_embed/bias"),
    Rule(_UMT_BLOCK + "norm1.weight", "vision/blocks/norm1/scale"),
    Rule(_UMT_BLOCK + "norm1.bias", "vision/blocks/norm1/bias"),
    Rule(_UMT_BLOCK + "attn.qkv.weight", "vision/blocks/attn/qkv/kernel", LINEAR),
    Rule(_UMT_BLOCK + "attn.q_bias", "vision/blocks/attn/q_bias"),
    Rule(_UMT_BLOCK + "attn.v_bias", "vision/blocks/attn/v_bias"),
    Rule(_UMT_BLOCK + "attn.proj.weight", "vision/blocks/attn/proj/kernel", LINEAR),
    Rule(_UMT_BLOCK + "attn.proj.bias", "vision/blocks/attn/proj/bias"),
    Rule(_UMT_BLOCK + "norm2.weight", "vision/blocks/norm2/scale"),
    Rule(_UMT_BLOCK + "norm2.bias", "vision/blocks/norm2/bias"),
    Rule(_UMT_BLOCK + "mlp.fc1.weight", "vision/blocks/mlp/fc1/kernel", LINEAR),
    Rule(_UMT_BLOCK + "mlp.fc1.bias", "vision/blocks/mlp/fc1/bias"),
    Rule(_UMT_BLOCK + "mlp.fc2.weight", "vision/blocks/mlp/fc2/kernel", LINEAR),
    Rule(_UMT_BLOCK + "mlp.fc2.bias", "vision/blocks/mlp/fc2/bias"),
    Rule(_UMT + "vision_layernorm.weight", "vision/norm/scale"),
    Rule(_UMT + "vision_layernorm.bias", "vision/norm/bias"),
)

_INTERNVIDEO2_BLOCK = _TOWER + "blocks.{n}."

INTERNVIDEO2 = (
    Rule(_TOWER + "patch_embed.proj.weight", "vision/patch_embed/kernel", PATCH),
    Rule(_TOWER + "patch_embed.proj.bias", "vision/patch_embed/bias"),
    Rule(_TOWER + "cls_token", "vision/cls_token", TOKEN),
    Rule(_TOWER + "pos_embed", "vision/pos_embed", POSITIONS),
    Rule(_TOWER + "img_pos_embed", "vision/img_pos_embed", POSITIONS),
    Rule(_INTERNVIDEO2_BLOCK + "norm1.weight", "vision/blocks/norm1/scale"),
    Rule(_INTERNVIDEO2_BLOCK + "attn.qkv.weight", "vision/blocks/attn/qkv/kernel", LINEAR),
    Rule(_INTERNVIDEO2_BLOCK + "attn.q_norm.weight", "vision/blocks/attn/q_norm/scale"),
    Rule(_INTERNVIDEO2_BLOCK + "attn.k_norm.weight", "vision/blocks/attn/k_norm/scale"),
    Rule(_INTERNVIDEO2_BLOCK + "attn.proj.weight", "vision/blocks/attn/proj/kernel", LINEAR),
    Rule(_INTERNVIDEO2_BLOCK + "attn.proj.bias", "vision/blocks/attn/proj/bias"),
    Rule(_INTERNVIDEO2_BLOCK + "ls1.weight", "vision/blocks/ls1/scale"),
    Rule(_INTERNVIDEO2_BLOCK + "norm2.weight", "vision/blocks/norm2/scale"),
    Rule(_INTERNVIDEO2_BLOCK + "mlp.fc1.weight", "vision/blocks/mlp/fc1/kernel", LINEAR),
    Rule(_INTERNVIDEO2_BLOCK + "mlp.fc1.bias", "vision/blocks/mlp/fc1/bias"),
    Rule(_INTERNVIDEO2_BLOCK + "mlp.fc2.weight", "vision/blocks/mlp/fc2/kernel", LINEAR),
    Rule(_INTERNVIDEO2_BLOCK + "mlp.fc2.bias", "vision/blocks/mlp/fc2/bias"),
    Rule(_INTERNVIDEO2_BLOCK + "ls2.weight", "vision/blocks/ls2/scale"),
)

ENCODERS = {"umt": UMT, "internvideo2": INTERNVIDEO2}

_PROJECTOR = "model.mm_projector.mlp."

PROJECTOR = (
    Rule(_PROJECTOR + "0.weight", "projector/fc1/kernel", LINEAR),
    Rule(_PROJECTOR + "0.bias", "projector/fc1/bias"),
    Rule(_PROJECTOR + "2.weight", "projector/fc2/kernel", LINEAR),
    Rule(_PROJECTOR + "2.bias", "projector/fc2/bias"),
)

_LAYER = "model.layers.{n}."

QWEN2 = (
    Rule("model.embed_tokens.weight", "llm/embed_tokens/embedding"),
    Rule(_LAYER + "input_layernorm.weight", "llm/layers/input_layernorm/scale"),
    Rule(_LAYER + "self_attn.q_proj.weight", "llm/layers/self_attn/q_proj/kernel", LINEAR),
    Rule(_LAYER + "self_attn.q_proj.bias", "llm/layers/self_attn/q_proj/bias"),
    Rule(_LAYER + "self_attn.k_proj.weight", "llm/layers/self_attn/k_proj/kernel", LINEAR),
    Rule(_LAYER + "self_attn.k_proj.bias", "llm/layers/self_attn/k_proj/bias"),
    Rule(_LAYER + "self_attn.v_proj.weight", "llm/layers/self_attn/v_proj/kernel", LINEAR),
    Rule(_LAYER + "self_attn.v_proj.bias", "llm/layers/self_attn/v_proj/bias"),
    Rule(_LAYER + "self_attn.o_proj.weight", "llm/layers/self_attn/o_proj/kernel", LINEAR),
    Rule(_LAYER + "post_attention_layernorm.weight", "llm/layers/post_attention_layernorm/scale"),
    Rule(_LAYER + "mlp.gate_proj.weight", "llm/layers/mlp/gate_proj/kernel", LINEAR),
    Rule(_LAYER + "mlp.up_proj.weight", "llm/layers/mlp/up_proj/kernel", LINEAR),
    Rule(_LAYER + "mlp.down_proj.weight", "llm/layers/mlp/down_proj/kernel", LINEAR),
    Rule("model.norm.weight", "llm/norm/scale"),
)

LM_HEAD = (Rule("lm_head.weight", "llm/lm_head/kernel", LINEAR),)

# A tied head may still be in a file; it is accepted when it equals the tensor it is tied to.
TIED_COPY = ("lm_head.weight", "model.embed_tokens.weight")


def rules_for(model: ModelConfig) -> tuple[Rule, ...]:
    """The rules of one model, in the order in which the original's tensors are written."""
    head = () if model.llm.tie_word_embeddings else LM_HEAD
    return (*QWEN2, *ENCODERS[model.vision.architecture], *PROJECTOR, *head)
