"""Reads and writes JSON strictly: what one reader accepts, every other reads the same way."""

from __future__ import annotations

import collections
import json
import math
from pathlib import Path
from typing import Any, NoReturn


def parse_json(text: bytes) -> Any:
    """Parses UTF-8 JSON.

    Raises:
        ValueError: invalid JSON or UTF-8, nested too deeply, a key given twice, a number that is
            not finite, or half of a surrogate pair.
    """
    try:
        value = json.loads(
            text.decode("utf-8-sig"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text, {error.reason} at byte {error.start}") from None
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # Rejects half a surrogate pair.
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file whose top level is an object.

    Raises:
        ValueError: the file is missing or `parse_json` rejects it; the message does not name it.
    """
    if not path.is_file():
        raise ValueError("no such file")
    content = path.read_bytes()
    try:
        value = parse_json(content)
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"JSON {type(value).__name__}, expected an object")
    return value


def format_json(value: Any) -> str:
    """Formats indented JSON.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        name, _ = collections.Counter(name for name, _ in pairs).most_common(1)[0]
        values = [value for key, value in pairs if key == name]
        raise ValueError(f"duplicate key {name!r} with the values {_short(values)}")
    return mapping


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number; replace it by a number or null")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
