"""Reads and writes small text and JSON files; each write is atomic."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically, so that a killed process never leaves half a file."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, *, remedy: str = "delete the file; it will be written again") -> Any:
    """Reads a JSON file.

    Args:
        remedy: advice for the error message.

    Raises:
        ValueError: the file is damaged; the message names it and ends with `remedy`.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # Includes invalid UTF-8.
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error
