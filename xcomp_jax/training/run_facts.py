"""Describes what must be equal on all processes of a run: code, configuration and files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

import xcomp_jax
from xcomp_jax.config import ExperimentConfig, to_dict
from xcomp_jax.data.training_set import TrainingSet

MAX_ROWS = 1000
"""Rows whose names are compared; more would take long for millions of rows."""


def run_facts(config: ExperimentConfig) -> dict[str, str]:
    """Returns values by name: versions, configuration fields, and hashes of the files it names."""
    facts = code_facts()
    facts |= {f"configuration field {name}": repr(v) for name, v in _fields(to_dict(config))}
    data = config.data
    named = {
        "data.train": data.train,
        "data.held_out": data.held_out,
        "data.tokenizer": data.tokenizer,
        "data.mixture.path": data.mixture.path,
        "data.mixture.table": data.mixture.table,
        "init_from": config.init_from,
    }
    return facts | file_facts({field: path for field, path in named.items() if path})


def code_facts() -> dict[str, str]:
    """Returns the versions of this package, with a hash of its sources, and of JAX."""
    return {"xcomp_jax": _code_hash(), "jax": jax.__version__, "jaxlib": jax.lib.__version__}


def file_facts(paths: Mapping[str, str | Path | None]) -> dict[str, str]:
    """Returns the content hash of each file or folder, named by option or field."""
    return {
        f"content of {name} {path}": content_hash(Path(path))
        for name, path in paths.items()
        if path is not None
    }


def row_facts(rows: TrainingSet) -> dict[str, str]:
    """Returns the number of training rows and a hash of the names of evenly spaced ones."""
    step = max(1, len(rows) // MAX_ROWS)
    names = (rows.row_id(row).encode() for row in range(0, len(rows), step))
    return {"number of training samples": str(len(rows)), "training samples": _short_hash(names)}


def content_hash(path: Path) -> str:
    """Returns a hash of a file, or of the names and sizes in a folder; `missing` if neither."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if not path.is_dir():
        return "missing"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return _short_hash(f"{f.relative_to(path)} {f.stat().st_size}\n".encode() for f in files)


def _code_hash() -> str:
    """Returns the version of this package with a hash of its sources."""
    root = Path(xcomp_jax.__file__).parent
    sources = [
        Path(folder) / name
        for folder, _, names in os.walk(root, followlinks=True)  # convert, launch, configs
        for name in names
        if name.endswith(".py")
    ]
    digest = _short_hash(source.read_bytes() for source in sorted(sources))
    return f"{xcomp_jax.__version__} with sources {digest}"


def _short_hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()[:16]


def _fields(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and value of every field."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                yield from _fields(item, f"{prefix}{name}.{index}.")
        else:
            yield f"{prefix}{name}", value
