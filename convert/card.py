"""Model card (README.md) of a converted checkpoint: model, origin and use."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.variants import match_variant


def jax_card(model: ModelConfig, source: Mapping[str, Any], stored: str) -> str:
    """Formats the card of an XComp-JAX checkpoint.

    Args:
        model: configuration of the model.
        source: origin as saved in config.json, see `xcomp_jax.convert.from_torch`.
        stored: dtype of the parameters.
    """
    return "\n".join(
        [
            "# XComp-JAX checkpoint",
            "",
            f"Converted from `{source['name']}`{_at(source)} with `xcomp convert from-torch`.",
            "",
            *_model_section(model, stored),
            "## Source files",
            "",
            *_file_table(source["files"]),
            "",
            f"The tensors are {source['dtype']}. config.json has the sha256 of every converted "
            "parameter and, under `source.hf_config`, the configuration of the PyTorch checkpoint.",
            "",
            "## Use",
            "",
            "```python",
            "import xcomp_jax",
            "",
            'session = xcomp_jax.from_pretrained("path/to/this/folder")',
            'config, params = xcomp_jax.load_params("path/to/this/folder")  # the bare model',
            "```",
            "",
            "`xcomp convert verify SOURCE THIS` compares it with its source tensor by tensor; "
            "`xcomp convert to-torch THIS OUT` exports it to the PyTorch layout.",
            "",
        ]
    )


def torch_card(
    model: ModelConfig,
    source: Mapping[str, Any],
    stored: str,
    files: Sequence[Mapping[str, Any]],
) -> str:
    """Formats the card of an exported PyTorch checkpoint; `files` describes its weights."""
    origin = (
        f", which was converted from `{source['name']}`{_at(source)}" if "name" in source else ""
    )
    compression = dataclasses.asdict(model.compression)
    return "\n".join(
        [
            "# Checkpoint in PyTorch layout",
            "",
            f"Exported from an XComp-JAX checkpoint{origin} with `xcomp convert to-torch`.",
            "",
            *_model_section(model, stored),
            "## Weights",
            "",
            *_file_table(files),
            "",
            "## Use",
            "",
            "This folder has no Python files; add those of the PyTorch release that you use. The "
            "PyTorch code reads the LP-Comp settings from environment variables instead of "
            f"config.json; the settings of this model are `{compression}`.",
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
    rows = [("published model with this configuration", variant.name if variant else "none")]
    rows += [(f"{part} parameters", f"{total:,}") for part, total in totals.items()]
    rows += [("all parameters", f"{sum(totals.values()):,}"), ("stored as", stored)]
    for part in ("vision", "projector", "llm", "compression"):
        fields = dataclasses.asdict(getattr(model, part))
        rows += [(f"{part}.{name}", str(value)) for name, value in fields.items()]
    return ["## Model", "", "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows), ""]


def _file_table(files: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [f"| {f['name']} | {f['bytes']:,} | `{f['sha256']}` |" for f in files]
    return ["| file | bytes | sha256 |", "|---|---|---|", *rows]
