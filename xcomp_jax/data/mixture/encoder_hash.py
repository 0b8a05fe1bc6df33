"""Identifies the frozen vision encoder of a model or checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from xcomp_jax.checkpoint import CheckpointReader
from xcomp_jax.config import DType, ModelConfig
from xcomp_jax.token_store import hash_encoder


def encoder_settings(model: ModelConfig) -> dict[str, Any]:
    """Returns everything except parameters that determines the encoder's output."""
    return {
        "vision": dataclasses.asdict(model.vision),
        "projector": dataclasses.asdict(model.projector),
    }


def encoder_hash_of(vision: Mapping[str, Any], model: ModelConfig) -> str:
    """Hashes the encoder's parameters (`params["vision"]`) and settings."""
    return hash_encoder({"vision": vision}, encoder_settings(model))


def read_vision(reader: CheckpointReader, dtype: DType) -> Any:
    """Reads the encoder's parameters (`params["vision"]`), and nothing else, as `dtype`."""
    return traverse_util.unflatten_dict(
        {
            path: reader.part(path, tuple(slice(n) for n in shape), dtype)
            for path, shape in reader.shapes.items()
            if path.startswith("vision/")
        },
        sep="/",
    )["vision"]
