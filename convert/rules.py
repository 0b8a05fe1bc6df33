"""Table of tensor names in the PyTorch checkpoint and parameter paths here.

A row is (tensor name, parameter path, layout), with the layouts of `xcomp_jax.convert.map`.
`{n}` in a tensor name is a block number; the parameter stacks all blocks along a leading axis.
Shapes are not listed: they come from the model (`param_shapes`). To support another encoder, add
its rows and one entry in `ENCODERS`.
"""

_TOWER = "model.vision_tower.vision_tower."
_UMT = _TOWER + "encoder."
_UMT_BLOCK = _UMT + "blocks.{n}."

UMT = (
    (_UMT + "patch_embed.proj.weight", "vision/patch_embed/kernel", "patch"),
    (_UMT + "patch_embed.proj.bias", "vision/patch_embed/bias", "copy"),
    (_UMT_BLOCK + "norm1.weight", "vision/blocks/norm1/scale", "copy"),
    (_UMT_BLOCK + "norm1.bias", "vision/blocks/norm1/bias", "copy"),
    (_UMT_BLOCK + "attn.qkv.weight", "vision/blocks/attn/qkv/kernel", "linear"),
    (_UMT_BLOCK + "attn.q_bias", "vision/blocks/attn/q_bias", "copy"),
    (_UMT_BLOCK + "attn.v_bias", "vision/blocks/attn/v_bias", "copy"),
    (_UMT_BLOCK + "attn.proj.weight", "vision/blocks/attn/proj/kernel", "linear"),
    (_UMT_BLOCK + "attn.proj.bias", "vision/blocks/attn/proj/bias", "copy"),
    (_UMT_BLOCK + "norm2.weight", "vision/blocks/norm2/scale", "copy"),
    (_UMT_BLOCK + "norm2.bias", "vision/blocks/norm2/bias", "copy"),
    (_UMT_BLOCK + "mlp.fc1.weight", "vision/blocks/mlp/fc1/kernel", "linear"),
    (_UMT_BLOCK + "mlp.fc1.bias", "vision/blocks/mlp/fc1/bias", "copy"),
    (_UMT_BLOCK + "mlp.fc2.weight", "vision/blocks/mlp/fc2/kernel", "linear"),
    (_UMT_BLOCK + "mlp.fc2.bias", "vision/blocks/mlp/fc2/bias", "copy"),
    (_UMT + "vision_layernorm.weight", "vision/norm/scale", "copy"),
    (_UMT + "vision_layernorm.bias", "vision/norm/bias", "copy"),
)

_INTERNVIDEO2_BLOCK = _TOWER + "blocks.{n}."

INTERNVIDEO2 = (
    (_TOWER + "patch_embed.proj.weight", "vision/patch_embed/kernel", "patch"),
    (_TOWER + "patch_embed.proj.bias", "vision/patch_embed/bias", "copy"),
    (_TOWER + "cls_token", "vision/cls_token", "token"),
    (_TOWER + "pos_embed", "vision/pos_embed", "positions"),
    (_TOWER + "img_pos_embed", "vision/img_pos_embed", "positions"),
    (_INTERNVIDEO2_BLOCK + "norm1.weight", "vision/blocks/norm1/scale", "copy"),
    (_INTERNVIDEO2_BLOCK + "attn.qkv.weight", "vision/blocks/attn/qkv/kernel", "linear"),
    (_INTERNVIDEO2_BLOCK + "attn.q_norm.weight", "vision/blocks/attn/q_norm/scale", "copy"),
    (_INTERNVIDEO2_BLOCK + "attn.k_norm.weight", "vision/blocks/attn/k_norm/scale", "copy"),
    (_INTERNVIDEO2_BLOCK + "attn.proj.weight", "vision/blocks/attn/proj/kernel", "linear"),
    (_INTERNVIDEO2_BLOCK + "attn.proj.bias", "vision/blocks/attn/proj/bias", "copy"),
    (_INTERNVIDEO2_BLOCK + "ls1.weight", "vision/blocks/ls1/scale", "copy"),
    (_INTERNVIDEO2_BLOCK + "norm2.weight", "vision/blocks/norm2/scale", "copy"),
    (_INTERNVIDEO2_BLOCK + "mlp.fc1.weight", "vision/blocks/mlp/fc1/kernel", "linear"),
    (_INTERNVIDEO2_BLOCK + "mlp.fc1.bias", "vision/blocks/mlp/fc1/bias", "copy"),
    (_INTERNVIDEO2_BLOCK + "mlp.fc2.weight", "vision/blocks/mlp/fc2/kernel", "linear"),
    (_INTERNVIDEO2_BLOCK + "mlp.fc2.bias", "vision/blocks/mlp/fc2/bias", "copy"),
    (_INTERNVIDEO2_BLOCK + "ls2.weight", "vision/blocks/ls2/scale", "copy"),
)

ENCODERS = {"umt": UMT, "internvideo2": INTERNVIDEO2}

_PROJECTOR = "model.mm_projector.mlp."

PROJECTOR = (
    (_PROJECTOR + "0.weight", "projector/fc1/kernel", "linear"),
    (_PROJECTOR + "0.bias", "projector/fc1/bias", "copy"),
    (_PROJECTOR + "2.weight", "projector/fc2/kernel", "linear"),
    (_PROJECTOR + "2.bias", "projector/fc2/bias", "copy"),
)

_LAYER = "model.layers.{n}."

QWEN2 = (
    ("model.embed_tokens.weight", "llm/embed_tokens/embedding", "copy"),
    (_LAYER + "input_layernorm.weight", "llm/layers/input_layernorm/scale", "copy"),
    (_LAYER + "self_attn.q_proj.weight", "llm/layers/self_attn/q_proj/kernel", "linear"),
    (_LAYER + "self_attn.q_proj.bias", "llm/layers/self_attn/q_proj/bias", "copy"),
    (_LAYER + "self_attn.k_proj.weight", "llm/layers/self_attn/k_proj/kernel", "linear"),
    (_LAYER + "self_attn.k_proj.bias", "llm/layers/self_attn/k_proj/bias", "copy"),
    (_LAYER + "self_attn.v_proj.weight", "llm/layers/self_attn/v_proj/kernel", "linear"),
    (_LAYER + "self_attn.v_proj.bias", "llm/layers/self_attn/v_proj/bias", "copy"),
    (_LAYER + "self_attn.o_proj.weight", "llm/layers/self_attn/o_proj/kernel", "linear"),
    (
        _LAYER + "post_attention_layernorm.weight",
        "llm/layers/post_attention_layernorm/scale",
        "copy",
    ),
    (_LAYER + "mlp.gate_proj.weight", "llm/layers/mlp/gate_proj/kernel", "linear"),
    (_LAYER + "mlp.up_proj.weight", "llm/layers/mlp/up_proj/kernel", "linear"),
    (_LAYER + "mlp.down_proj.weight", "llm/layers/mlp/down_proj/kernel", "linear"),
    ("model.norm.weight", "llm/norm/scale", "copy"),
)

LM_HEAD = (("lm_head.weight", "llm/lm_head/kernel", "linear"),)

# A file may hold a tied head as well. It is accepted when it equals the embedding.
TIED_COPY = ("lm_head.weight", "model.embed_tokens.weight")
