"""The README.md beside every converted checkpoint: what it is and where it comes from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.variants import match_variant


def jax_card(model: ModelConfig, source: Mapping[str, Any], stored: str) -> str:
    """Card of a checkpoint of ours.

    Args:
        model: its configuration.
        source: as saved in its config.json, see `convert.from_torch`.
        stored: dtype of its parameters.
    """
    return "\n".join(
        [
            "# XComp-JAX checkpoint",
            "",
            f"Converted from `{source['name']}`{_at(source)} with `python -m convert from_torch`.",
            "",
            *_model_section(model, stored),
            "## Source files",
            "",
            *_file_table(source["files"]),
            "",
            f"They hold {source['dtype']}. The sha256 of every converted array is in config.json, "
            "and the original's configuration under `source.hf_config`.",
            "",
            "## Use",
            "",
            "```python",
            "from xcomp_jax.checkpoint import load_params",
            "",
            'model_config, params = load_params("path/of/this/folder")',
            "```",
            "",
            "`python -m convert verify ORIGINAL THIS` compares it with its original tensor by "
            "tensor; `python -m convert to_torch THIS OUT` writes it back.",
            "",
        ]
    )


def torch_card(
    model: ModelConfig,
    source: Mapping[str, Any],
    stored: str,
    files: Sequence[Mapping[str, Any]],
) -> str:
    """Card of a written checkpoint in the original's layout; `files` are its weights."""
    origin = f", which came from `{source['name']}`{_at(source)}" if "name" in source else ""
    compression = dataclasses.asdict(model.compression)
    return "\n".join(
        [
            "# Checkpoint in the layout of the original PyTorch code",
            "",
            f"Written by `python -m convert to_torch` from an XComp-JAX checkpoint{origin}.",
            "",
            *_model_section(model, stored),
            "## Weights",
            "",
            *_file_table(files),
            "",
            "## Use",
            "",
            "The original's Python files are not part of this folder; put the release that matches "
            "your use beside the weights. LP-Comp is not in config.json there but is set by "
            f"environment variables; this model was used with `{compression}`.",
            "",
        ]
    )


def _at(source: Mapping[str, Any]) -> str:
    revision = source.get("revision")
    return f" at commit `{revision}`" if revision else ""


def _model_section(model: ModelConfig, stored: str) -> list[str]:
    shapes = param_shapes(model)
    totals: dict[str, int] = {}
    for path, shape in shapes.items():
        part = path.split("/")[0]
        totals[part] = totals.get(part, 0) + math.prod(shape)
    variant = match_variant(model)
    rows = [("published model of these shapes", variant.name if variant else "none")]
    rows += [(f"{part} parameters", f"{total:,}") for part, total in totals.items()]
    rows += [("all parameters", f"{sum(totals.values()):,}"), ("stored as", stored)]
    for part in ("vision", "projector", "llm", "compression"):
        fields = dataclasses.asdict(getattr(model, part))
        rows += [(f"{part}.{name}", str(value)) for name, value in fields.items()]
    return ["## Model", "", "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows), ""]


def _file_table(files: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [f"| {f['name']} | {f['bytes']:,} | `{f['sha256']}` |" for f in files]
    return ["| file | bytes | sha256 |", "|---|---|---|", *rows]
