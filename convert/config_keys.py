"""Tables of the keys of config.json.

A key is read as a field of ModelConfig (`LLM_KEYS`, `TINY_KEYS` and those of `convert.config`), or
it changes the numbers and is checked (`SUPPORTED`), or it does not (`IRRELEVANT`). Any other key is
named in a warning.
"""

from __future__ import annotations

from typing import Any

# Sizes hard coded in the PyTorch code; tiny test models store them under these keys.
TINY_KEYS = {
    "tiny_image_size": "image_size",
    "tiny_vision_hidden_size": "width",
    "tiny_vision_num_layers": "depth",
    "tiny_vision_num_heads": "num_heads",
}

VISION_FIELDS = (*TINY_KEYS.values(), "clip_frames", "select_layer")

LLM_KEYS: dict[str, type] = {
    "vocab_size": int,
    "hidden_size": int,
    "intermediate_size": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "num_key_value_heads": int,
    "rope_theta": float,
    "rms_norm_eps": float,
    "tie_word_embeddings": bool,
}

DTYPE_KEYS = ("torch_dtype", "dtype")
# transformers 5 stores the settings of the rotary embedding one level deeper.
ROPE_KEYS = ("rope_parameters", "rope_scaling")

MODEL_TYPES = ("videochat_flash_qwen", "qwen2", "llava_qwen")
"""`model_type` of the releases: of VideoChat-Flash and XComp's evaluation, and of its training."""

SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": MODEL_TYPES,
    "architectures": (["VideoChatFlashQwenForCausalLM"], ["LlavaQwenForCausalLM"]),
    # Language model.
    "hidden_act": ("silu",),
    "attention_bias": (True,),
    "qkv_bias": (True,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "quantization_config": (None,),
    "pruned_heads": ({},),
    # Visual tokens.
    "vision_encode_type": ("video_image",),
    "mm_vision_select_feature": ("patch",),
    "mm_patch_merge_type": ("spatial_nopad", "spatial", "flat"),
    "mm_use_im_start_end": (False,),
    "mm_use_im_patch_token": (False,),
    "mm_llm_compress": (False,),
    "frame_aspect_ratio": ("square",),
}
"""Supported values of keys that change the numbers; a missing key means the first value."""

IRRELEVANT: dict[str, str] = {
    **dict.fromkeys(
        ("_name_or_path", "auto_map", "transformers_version", "use_mm_proj", "delay_load",
         "mm_close_init", "vision_tower_pretrained", "id2label", "label2id"),
        "describes the files, not the model",
    ),
    **dict.fromkeys(
        ("initializer_range", "attention_dropout", "use_pos_skipping", "pos_skipping_range",
         "mm_tunable_parts", "mm_projector_lr", "mm_vision_tower_lr", "unfreeze_mm_vision_tower",
         "tune_mm_mlp_adapter", "freeze_mm_mlp_adapter", "problem_type"),
        "read in training only, which `xcomp tune` configures itself",
    ),
    **dict.fromkeys(
        ("sliding_window", "max_window_layers"),
        "read only with use_sliding_window, which is refused",
    ),
    **dict.fromkeys(
        ("llm_compress_layer_list", "llm_compress_type", "llm_image_token_ratio_list"),
        "read only with mm_llm_compress, which is refused",
    ),
    **dict.fromkeys(
        ("mm_num_compress_latents", "mm_num_compress_query_type", "mm_resampler_type",
         "mm_spatial_pool_mode", "mm_spatial_pool_stride", "mm_pos_num_frames",
         "min_slow_num_frames"),
        "not read with the projector tome<tokens>_mlp_hd64",
    ),
    **dict.fromkeys(
        ("frame_grid_pinpoints", "max_num_pixels"),
        "read only with another frame_aspect_ratio, which is refused",
    ),
    **dict.fromkeys(
        ("image_aspect_ratio", "image_grid_pinpoints", "image_crop_resolution",
         "image_split_resolution"),
        "about single images in the original's chat",
    ),
    **dict.fromkeys(
        ("max_position_embeddings", "tokenizer_model_max_length"),
        "a limit of length; the numbers below it do not depend on it",
    ),
    **dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id"),
        "the tokenizer and generation_config.json decide",
    ),
    **dict.fromkeys(
        ("use_cache", "tokenizer_padding_side", "_attn_implementation", "attn_implementation",
         "_attn_implementation_autoset", "return_dict", "output_attentions",
         "output_hidden_states", "torchscript", "chunk_size_feed_forward", "is_decoder",
         "is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder"),
        "how the original computes, not what",
    ),
}  # fmt: skip
"""Keys whose value does not change the numbers, with the reason."""
