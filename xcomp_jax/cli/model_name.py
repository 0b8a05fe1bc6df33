"""Names the model of `--checkpoint` on evidence pages, without the folders of the user."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def model_name(options: argparse.Namespace) -> str:
    """Returns the name of the model: its hub id or its experiment, else its folder."""
    if options.checkpoint is None:
        return "demo checkpoint"
    folder = Path(options.checkpoint).expanduser()
    if not folder.is_dir():
        return options.checkpoint if not options.revision else f"{folder}@{options.revision}"
    return _provenance_name(_source(folder)) or _folder_name(folder.resolve())


def _source(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return dict(config.get("source", {}))
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # the session has reported a damaged file before


def _provenance_name(source: dict[str, Any]) -> str | None:
    if source.get("experiment"):
        return f"{source['experiment']}, stage {source.get('stage')}"
    if source.get("name"):
        commit = source.get("revision")
        name = str(source["name"])
        return f"{name}@{commit[:7]}" if commit else Path(name).resolve().name
    return None


def _folder_name(folder: Path) -> str:
    """Returns the folder's name; `checkpoint` alone says nothing, so its parent is added."""
    return f"{folder.parent.name}/checkpoint" if folder.name == "checkpoint" else folder.name
