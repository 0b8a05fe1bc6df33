"""Format measured rows as Markdown, and write them as Markdown and JSON by device."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

Row = Mapping[str, Any]


def environment() -> dict[str, str]:
    """Returns the device and the versions on which the figures depend."""
    packages = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    return {"device": jax.devices()[0].device_kind, "devices": str(jax.device_count()), **packages}


def table(rows: Sequence[Row]) -> str:
    """Returns a Markdown table of the columns of all rows, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(name, row.get(name, "")) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{100 * value:.0f} %" if name == "of_roofline" else f"{value:.4g}"
    return str(value).replace("|", "/").replace("\n", " ")


def write(name: str, sections: Mapping[str, Iterable[Row]], folder: Path) -> Path:
    """Writes `folder`/<device>/`name`.json and .md, and returns the path of the Markdown file."""
    versions = environment()
    device = re.sub(r"[^a-z0-9]+", "_", versions["device"].lower()).strip("_")
    contents = {title: list(rows) for title, rows in sections.items()}
    path = folder / device / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ", ".join(f"{key} {value}" for key, value in versions.items())
    parts = [f"# {name}\n\n{text}\n"]
    parts += [f"## {title}\n\n{table(rows)}\n" for title, rows in contents.items() if rows]
    path.write_text("\n".join(parts), encoding="utf-8")
    figures = json.dumps({"environment": versions, "sections": contents}, indent=1)
    path.with_suffix(".json").write_text(figures + "\n", encoding="utf-8")
    return path
