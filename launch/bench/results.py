"""Measured rows as Markdown and JSON, the newest of each device in a folder of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).with_name("results")
Row = Mapping[str, Any]


def environment() -> dict[str, str]:
    """The device and the versions that decide the figures."""
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    return {"device": jax.devices()[0].device_kind, "devices": str(jax.device_count()), **versions}


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of all columns that any row has, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(name, row.get(name, "")) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{100 * value:.0f} %" if name == "of_roofline" else f"{value:.4g}"
    return str(value).replace("|", "/").replace("\n", " ")


def write(name: str, sections: Mapping[str, Iterable[Row]], folder: Path = RESULTS) -> Path:
    """Replaces `folder`/<device>/`name`.json and .md; returns the Markdown's path."""
    about = environment()
    device = re.sub(r"[^a-z0-9]+", "_", about["device"].lower()).strip("_")
    whole = {title: list(rows) for title, rows in sections.items()}
    path = folder / device / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ", ".join(f"{key} {value}" for key, value in about.items())
    parts = [f"# {name}\n\n{text}\n"]
    parts += [f"## {title}\n\n{table(rows)}\n" for title, rows in whole.items() if rows]
    path.write_text("\n".join(parts), encoding="utf-8")
    content = json.dumps({"environment": about, "sections": whole}, indent=1)
    path.with_suffix(".json").write_text(content + "\n", encoding="utf-8")
    return path
