"""InternVideo2-1B, the other published video encoder: its tensors by name and shape.

The encoder itself is not built yet. When it is, these rules join `convert.rules.rules_for` and its
model gives the shapes; until then they complete the manifest of known models.
"""

from __future__ import annotations

import dataclasses

from convert.layouts import LINEAR, PATCH, Layout, Shape
from convert.rules import Rule

_TOWER = "model.vision_tower.vision_tower."
_BLOCK = _TOWER + "blocks.{n}."

_TABLE = Layout(drop=(0,))
_TOKEN = Layout(drop=(0, 1))

INTERNVIDEO2 = (
    Rule(_TOWER + "patch_embed.proj.weight", "vision/patch_embed/kernel", PATCH),
    Rule(_TOWER + "patch_embed.proj.bias", "vision/patch_embed/bias"),
    Rule(_TOWER + "cls_token", "vision/cls_token", _TOKEN),
    Rule(_TOWER + "pos_embed", "vision/pos_embed", _TABLE),
    Rule(_TOWER + "img_pos_embed", "vision/img_pos_embed", _TABLE),
    Rule(_BLOCK + "norm1.weight", "vision/blocks/norm1/scale"),
    Rule(_BLOCK + "attn.qkv.weight", "vision/blocks/attn/qkv/kernel", LINEAR),
    Rule(_BLOCK + "attn.q_norm.weight", "vision/blocks/attn/q_norm/scale"),
    Rule(_BLOCK + "attn.k_norm.weight", "vision/blocks/attn/k_norm/scale"),
    Rule(_BLOCK + "attn.proj.weight", "vision/blocks/attn/proj/kernel", LINEAR),
    Rule(_BLOCK + "attn.proj.bias", "vision/blocks/attn/proj/bias"),
    Rule(_BLOCK + "ls1.weight", "vision/blocks/ls1/scale"),
    Rule(_BLOCK + "norm2.weight", "vision/blocks/norm2/scale"),
    Rule(_BLOCK + "mlp.fc1.weight", "vision/blocks/mlp/fc1/kernel", LINEAR),
    Rule(_BLOCK + "mlp.fc1.bias", "vision/blocks/mlp/fc1/bias"),
    Rule(_BLOCK + "mlp.fc2.weight", "vision/blocks/mlp/fc2/kernel", LINEAR),
    Rule(_BLOCK + "mlp.fc2.bias", "vision/blocks/mlp/fc2/bias"),
    Rule(_BLOCK + "ls2.weight", "vision/blocks/ls2/scale"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InternVideo2Sizes:
    """Sizes of the published 1B encoder; `num_blocks` of its 40 blocks exist in a checkpoint."""

    width: int = 1408
    num_blocks: int = 39
    image_size: int = 224
    patch_size: int = 14
    clip_frames: int = 4

    def shapes(self) -> dict[str, Shape]:
        """Path -> shape, as `xcomp_jax.checkpoint.param_shapes` gives it for the other encoder."""
        width, patch = self.width, self.patch_size
        hidden = int(width * 48 / 11)
        patches = (self.image_size // patch) ** 2
        block: dict[str, Shape] = {
            "norm1/scale": (width,),
            "attn/qkv/kernel": (width, 3 * width),
            "attn/q_norm/scale": (width,),
            "attn/k_norm/scale": (width,),
            "attn/proj/kernel": (width, width),
            "attn/proj/bias": (width,),
            "ls1/scale": (width,),
            "norm2/scale": (width,),
            "mlp/fc1/kernel": (width, hidden),
            "mlp/fc1/bias": (hidden,),
            "mlp/fc2/kernel": (hidden, width),
            "mlp/fc2/bias": (width,),
            "ls2/scale": (width,),
        }
        return {
            "vision/patch_embed/kernel": (patch, patch, 3, width),
            "vision/patch_embed/bias": (width,),
            "vision/cls_token": (width,),
            # One row for the class token, the others frame by frame.
            "vision/pos_embed": (1 + self.clip_frames * patches, width),
            "vision/img_pos_embed": (1 + patches, width),
            **{f"vision/blocks/{name}": (self.num_blocks, *s) for name, s in block.items()},
        }
