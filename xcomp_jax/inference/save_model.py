"""Saves a model as a checkpoint folder."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from xcomp_jax.checkpoint import save_params
from xcomp_jax.config import ConfigError, ModelConfig, SamplingConfig
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.models.quantized import is_quantized


def save_pretrained(
    folder: str | os.PathLike[str],
    config: ModelConfig,
    params: dict[str, Any],
    *,
    tokenizer: Any = None,
    sampling: SamplingConfig | None = None,
    generation: GenerationConfig | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint that `from_pretrained` and `load_params` read.

    Args:
        folder: folder to create.
        tokenizer: tokenizer to save; `from_pretrained` needs it, `load_params` does not.
        sampling: frame sampling that the model was trained with.
        generation: settings whose repetition penalty and end tokens are saved in
            generation_config.json.
        overwrite: replace a folder that this function wrote.

    Raises:
        CheckpointError: the folder exists, or the parameters contradict `config`.
        ConfigError: the parameters are quantised.
    """
    if is_quantized(params):
        raise ConfigError(
            "the parameters are quantised to int8, which cannot be saved; load the checkpoint "
            "without quantize (--quantize)"
        )
    source: dict[str, Any] = {"saved_by": "save_pretrained"}
    if sampling is not None:
        source["sampling"] = dataclasses.asdict(sampling)
    texts = {}
    if generation is not None:
        settings = {
            "repetition_penalty": generation.repetition_penalty,
            "eos_token_id": list(generation.eos_token_ids),
        }
        texts["generation_config.json"] = json.dumps(settings, indent=2) + "\n"
    save_params(
        folder,
        config,
        params,
        source=source,
        tokenizer=tokenizer,
        texts=texts,
        overwrite=overwrite,
    )
