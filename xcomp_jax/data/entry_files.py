"""Reads the entries of an annotation file: a JSON list, or JSON lines, whatever its suffix says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xcomp_jax.data.messages import shown
from xcomp_jax.files import read_text


class EntryFileError(ValueError):
    """Raised for a file without entries; the message names the file and the line or entry."""


class RepeatedKeys(dict[str, Any]):
    """A JSON object that has a key twice; it holds the last value, as `json` does."""


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Reads all entries of `path` in file order.

    The first character decides: `[` opens a JSON list, anything else is one object per line.

    Raises:
        EntryFileError: the content is neither, or there is no entry.
        TextError: the file is not UTF-8 text.
        OSError: it cannot be read.
    """
    text = read_text(path)
    entries = _list(text, path) if text.lstrip().startswith("[") else _lines(text, path)
    if not entries:
        raise EntryFileError(f"{path} must hold a list of at least one entry; it is empty")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise EntryFileError(f"{path}, entry {number}: must be an object, got {shown(entry)}")
    return entries


def _list(text: str, path: Path) -> list[Any]:
    try:
        return _parse(text)
    except json.JSONDecodeError as error:
        raise EntryFileError(f"{path}, line {error.lineno}: {_problem(error)}") from error
    except (ValueError, RecursionError) as error:
        raise EntryFileError(f"{path}: invalid JSON: {error}") from error


def _lines(text: str, path: Path) -> list[Any]:
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        # Joined files may have a byte-order mark inside.
        line = line.strip().removeprefix("\ufeff")
        if not line:
            continue
        try:
            entries.append(_parse(line))
        except (ValueError, RecursionError) as error:
            if number == 1 or not entries:
                _refuse_other_forms(text, path)
            raise EntryFileError(f"{path}, line {number}: {_problem(error)}") from error
    if len(entries) == 1 and path.suffix == ".json":
        _refuse_other_forms(text, path)
    return entries


def _refuse_other_forms(text: str, path: Path) -> None:
    """Raises EntryFileError if the whole file is one JSON value."""
    try:
        value = _parse(text)
    except (ValueError, RecursionError):
        return
    content = f"an object with the keys {shown(list(value))}" if isinstance(value, dict) else value
    raise EntryFileError(
        f"{path} must hold a JSON list of entries, or one entry per line, and holds {content}"
    )


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_fields)


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else RepeatedKeys(fields)


def _problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON: {error.msg}, at column {error.colno}"
    return f"invalid JSON: {error}"
