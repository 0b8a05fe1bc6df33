"""Explains in one sentence why many tensor names or shapes do not fit a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.diagnose_folder import ADAPTER_ADVICE
from xcomp_jax.convert.map import Slot
from xcomp_jax.convert.rules import TIED_COPY
from xcomp_jax.convert.tensors import Tensor

# torch.compile inserts the first anywhere; data parallelism puts the second before all names.
_COMPILED = "_orig_mod."
_PARALLEL = "module."

# Constants that older versions of the PyTorch code saved along with the weights.
_BUFFER = re.compile(r"(.*\.)?rotary_emb\.inv_freq")

_EMBEDDING = TIED_COPY[1]
_PARTS = {
    "language model": ("model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."),
    "vision encoder": ("model.vision_tower.",),
    "projector": ("model.mm_projector.",),
}
_LAYER = re.compile(r"model\.layers\.([0-9]+)\..*")


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes wrappers of PyTorch from names, and buffers that are computed from config.json.

    Names stay as they are where a plain name would be taken twice.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not _BUFFER.fullmatch(name)}
    names = {name: name.replace(_COMPILED, "") for name in kept}
    while names and all(plain.startswith(_PARALLEL) for plain in names.values()):
        names = {name: plain.removeprefix(_PARALLEL) for name, plain in names.items()}
    if len(set(names.values())) != len(names):
        return kept
    return {names[name]: tensor for name, tensor in kept.items()}


def diagnose_tensors(
    model: ModelConfig, slots: Mapping[str, Slot], tensors: Mapping[str, Tensor]
) -> str:
    """Returns one sentence about tensors that do not fill `slots`; "" if there is none to say."""
    if any(".lora_" in name or name.startswith("base_model.model.") for name in tensors):
        return ADAPTER_ADVICE
    embedding = next((name for name in tensors if name.endswith("embed_tokens.weight")), None)
    if embedding is not None and embedding != _EMBEDDING:
        return (
            f"tensor names begin with {_prefix(embedding)!r} instead of {_prefix(_EMBEDDING)!r} "
            f"({embedding!r} instead of {_EMBEDDING!r}): another class of model, or a part of one; "
            "save the whole model under the original's names"
        )
    if embedding is not None and tensors[embedding].shape != slots[_EMBEDDING].shape:
        return (
            f"config.json and weights belong to different models: {_EMBEDDING!r} is "
            f"{tensors[embedding].shape}, config.json requires {slots[_EMBEDDING].shape}"
        )
    layers = len({match[1] for name in tensors if (match := _LAYER.fullmatch(name))})
    if layers not in (0, model.llm.num_hidden_layers):
        return (
            f"the weights have {layers} decoder layers, config.json has num_hidden_layers="
            f"{model.llm.num_hidden_layers}; they belong to different models, or shards are missing"
        )
    return _count_parts(slots, tensors)


def _prefix(name: str) -> str:
    return name.removesuffix("embed_tokens.weight")


def _count_parts(slots: Mapping[str, Slot], names: Collection[str]) -> str:
    counts = []
    for part, prefixes in _PARTS.items():
        expected = [name for name in slots if name.startswith(prefixes)]
        found = sum(name in names for name in expected)
        counts.append(f"{found} of {len(expected)} of the {part}")
    return f"found {', '.join(counts)} among the tensors that config.json requires"
