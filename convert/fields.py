"""A ModelConfig as one flat table, to say in which fields two of them differ."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from xcomp_jax.config import ModelConfig, to_dict


def flat_fields(model: ModelConfig) -> dict[str, Any]:
    """`llm.hidden_size` -> value, for every field."""
    flat: dict[str, Any] = {}
    for part, value in to_dict(model).items():
        if isinstance(value, dict):
            flat |= {f"{part}.{name}": field for name, field in value.items()}
        else:
            flat[part] = value
    return flat


def differing_fields(
    a: ModelConfig, b: ModelConfig, *, without: Collection[str]
) -> list[tuple[str, Any, Any]]:
    """Name and both values of every field that differs, leaving out whole parts."""
    left, right = flat_fields(a), flat_fields(b)
    return [
        (name, left[name], right[name])
        for name in left
        if left[name] != right[name] and name.split(".")[0] not in without
    ]
