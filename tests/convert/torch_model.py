"""Small checkpoints in PyTorch layout, written with the safetensors package itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.convert.config import to_model_config
from xcomp_jax.convert.map import rules_for, tensor_slots
from xcomp_jax.convert.tensors import FLOATS

CONFIG: dict[str, Any] = {
    "architectures": ["VideoChatFlashQwenForCausalLM"],
    "model_type": "videochat_flash_qwen",
    "hidden_act": "silu",
    "vocab_size": 24,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "mm_hidden_size": 8,
    "mm_local_num_frames": 4,
    "mm_projector_type": "tome4_mlp_hd64",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "umt-hd-large",
    "tiny_image_size": 48,
    "tiny_vision_hidden_size": 8,
    "tiny_vision_num_layers": 3,
    "tiny_vision_num_heads": 2,
}

COMPANIONS = {
    "vocab.json": '{"a": 0}',
    "merges.txt": "#version: 0.2\n",
    "tokenizer_config.json": "{}",
    "generation_config.json": '{"repetition_penalty": 1.1}',
    "LICENSE": "terms",
}

EMBED = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
NORM = "model.norm.weight"
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


def config(**changes: Any) -> dict[str, Any]:
    return {**CONFIG, **changes}


def tensors(settings: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Draws random values for every tensor that a checkpoint with this config.json requires."""
    model = to_model_config(settings)
    slots = tensor_slots(rules_for(model), param_shapes(model))
    rng = np.random.default_rng(seed)
    dtype = FLOATS[settings["torch_dtype"]]
    return {
        name: rng.standard_normal(slot.shape, np.float32).astype(dtype)
        for name, slot in slots.items()
    }


def write(
    folder: Path,
    settings: Mapping[str, Any],
    values: Mapping[str, np.ndarray],
    *,
    shards: int = 1,
) -> Path:
    """Writes config.json, weights in `shards` files, and tokenizer files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    for name, text in COMPANIONS.items():
        (folder / name).write_text(text)
    if shards == 1:
        save_file(dict(values), folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(values.items())[i::shards])
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def make(folder: Path, *, shards: int = 1, seed: int = 0, **changes: Any) -> Path:
    """Writes a complete, valid checkpoint."""
    settings = config(**changes)
    return write(folder, settings, tensors(settings, seed), shards=shards)


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of all files with the safetensors package, as writable arrays."""
    values: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        values |= {name: array.copy() for name, array in load_file(path).items()}
    return values


def same_bits(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    """Tests for equal names, dtypes, shapes and bits."""
    return a.keys() == b.keys() and all(
        (a[name].dtype, a[name].shape, a[name].tobytes())
        == (b[name].dtype, b[name].shape, b[name].tobytes())
        for name in a
    )


def edit_tensors(
    values: dict[str, np.ndarray], changes: Mapping[str, np.ndarray | None]
) -> dict[str, np.ndarray]:
    """Returns tensors with changes: an array replaces or adds a tensor, None removes it."""
    edited = {**values, **changes}
    return {name: array for name, array in edited.items() if array is not None}


def rewrite(folder: Path, **changes: np.ndarray | None) -> None:
    """Changes tensors of a single-file checkpoint on disk, see `edit_tensors`."""
    values = edit_tensors(read_tensors(folder), changes)
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    """Changes keys of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
