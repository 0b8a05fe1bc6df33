"""Reads the yaml file of a mixture and the annotation files of its sets.

datasets:
  - json_path: annotations/captions.jsonl    # a JSON list, or one object per line
    data_root: videos/captions               # prefix of every media path of the set
    sampling_strategy: first2:10%            # default: all
    video_read_type: img                     # default: video files
    weight: 2                                # passes over the set per epoch (not in the original)
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from xcomp_jax.data.mixture.media import READERS


class MixtureError(ValueError):
    """Raised for an invalid mixture; the message names the file, the set and the error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureSet:
    """One entry of the yaml file, as written."""

    json_path: str
    data_root: str = ""
    sampling_strategy: str = "all"
    video_read_type: str | None = None
    media_type: str | None = None
    weight: float = 1.0


def read_sets(path: Path) -> tuple[MixtureSet, ...]:
    """Reads the entries of the yaml file; fields that `MixtureSet` does not have are ignored.

    Raises:
        MixtureError: the file is missing or invalid.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MixtureError(f"{path} cannot be read ({error.strerror}); give a yaml file") from error
    # ValueError: invalid UTF-8, date or number. RecursionError: nested too deeply.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MixtureError(f"{path} is not yaml: {error}") from error
    entries = content.get("datasets") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise MixtureError(
            f"{path} must hold a list `datasets` of entries with a json_path, got {content!r:.200}"
        )
    return tuple(_parse_set(entry, f"{path}, set {i}") for i, entry in enumerate(entries))


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Reads all entries of one annotation file, a JSON list or JSON lines.

    Raises:
        MixtureError: the file is missing or invalid.
    """
    if path.suffix not in (".json", ".jsonl"):
        raise MixtureError(f"{path} must be a .json or .jsonl file")
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix == ".jsonl":
                entries = [
                    _parse_json(line.strip(), f"{path}, line {number}")
                    for number, line in enumerate(file, 1)
                    if line.strip()
                ]
            else:
                entries = _parse_json(file.read(), str(path))
    except OSError as error:
        raise MixtureError(
            f"{path} cannot be read ({error.strerror}); json_path is relative to "
            "data.mixture.root (--root), by default the current directory"
        ) from error
    except UnicodeDecodeError as error:
        raise MixtureError(f"{path} is not {path.suffix[1:]}: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise MixtureError(f"{path} must hold a list of at least one entry")
    invalid = next((i for i, entry in enumerate(entries) if not isinstance(entry, dict)), None)
    if invalid is not None:
        raise MixtureError(
            f"{path}, entry {invalid}: must be an object, got {entries[invalid]!r:.200}"
        )
    return entries


def _parse_set(entry: Any, where: str) -> MixtureSet:
    known = {field.name for field in dataclasses.fields(MixtureSet)}
    values = entry if isinstance(entry, Mapping) else {}
    fields = {name: value for name, value in values.items() if name in known and value is not None}
    weight = fields.get("weight", 1.0)
    texts = [value for name, value in fields.items() if name != "weight"]
    if "json_path" not in fields or not all(isinstance(text, str) for text in texts):
        raise MixtureError(f"{where}: needs a json_path, and strings as values, got {entry!r:.200}")
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 < weight <= sys.float_info.max:
        raise MixtureError(f"{where}: weight={weight!r:.200} must be a finite number above 0")
    for name, allowed in (
        ("video_read_type", tuple(READERS)),
        ("media_type", ("image", "video", "text", "mix")),
    ):
        if name in fields and fields[name] not in allowed:
            raise MixtureError(f"{where}: {name}={fields[name]!r} must be one of {allowed}")
    return MixtureSet(**{**fields, "weight": float(weight)})


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MixtureError(f"{where}: invalid JSON: {error}") from error
