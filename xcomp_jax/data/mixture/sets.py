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
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from xcomp_jax.data import entry_files
from xcomp_jax.data.messages import nearest, shown, spelling_hint
from xcomp_jax.data.mixture.media import READERS
from xcomp_jax.files import TextError, read_text


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


FIELDS = tuple(field.name for field in dataclasses.fields(MixtureSet))
CHOICES = {
    "video_read_type": tuple(READERS),
    "media_type": ("image", "video", "text", "mix"),
}
EMPTY_ALLOWED = ("data_root", *CHOICES)
"""Fields whose empty value means the default; an empty `sampling_strategy` would mean all."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice, of which yaml would use the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = next((key for key in keys if key != "<<" and keys.count(key) > 1), None)
        if repeated is not None:
            raise yaml.MarkedYAMLError(
                problem=f"the key {repeated!r} occurs twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


def read_sets(path: Path) -> tuple[MixtureSet, ...]:
    """Reads the entries of the yaml file.

    Raises:
        MixtureError: the file is missing or invalid, or has a key that is unknown.
    """
    text = ""
    try:
        text = read_text(path)
        content = yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise MixtureError(
            f"{str(path)!r} cannot be read ({error.strerror}){spelling_hint(path)}; give a yaml "
            "file"
        ) from error
    except TextError as error:
        raise MixtureError(str(error)) from error
    # ValueError: invalid date or number. RecursionError: nested too deeply.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MixtureError(f"{path} is not yaml: {_one_line(error, text)}") from error
    entries = content.get("datasets") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise MixtureError(
            f"{path} must hold a list `datasets` of entries with a json_path, got {shown(content)}"
        )
    others = [key for key in content if key != "datasets"]
    if others:
        raise MixtureError(
            f"{path}: unknown key {shown(others[0])} beside `datasets`; indent it if it belongs to "
            "a set, or remove it"
        )
    return tuple(_parse_set(entry, f"{path}, set {i}") for i, entry in enumerate(entries))


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Reads all entries of one annotation file, a JSON list or JSON lines.

    Raises:
        MixtureError: the file is missing or invalid.
    """
    if path.suffix not in (".json", ".jsonl"):
        raise MixtureError(f"{str(path)!r} must be a .json or .jsonl file")
    try:
        return entry_files.read_entries(path)
    except OSError as error:
        raise MixtureError(
            f"{str(path)!r} cannot be read ({error.strerror}){spelling_hint(path)}; json_path is "
            "relative to --root (data.mixture.root), by default the current directory"
        ) from error
    except (entry_files.EntryFileError, TextError) as error:
        raise MixtureError(str(error)) from error
    except ValueError as error:  # A zero byte in the path.
        raise MixtureError(f"{str(path)!r} cannot be read: {error}") from error


def _parse_set(entry: Any, where: str) -> MixtureSet:
    if not isinstance(entry, Mapping):
        raise MixtureError(f"{where}: must have a json_path, got {shown(entry)}")
    for name in entry:
        if name not in FIELDS:
            raise MixtureError(
                f"{where}: unknown key {shown(name)}{nearest(str(name), FIELDS)}; known: "
                f"{', '.join(FIELDS)}"
            )
    fields = {name: value for name, value in entry.items() if value is not None}
    empty = next((name for name in entry if name not in (*fields, *EMPTY_ALLOWED)), None)
    if empty is not None:
        raise MixtureError(f"{where}: {empty} is empty; give a value, or remove the key")
    if not fields.get("json_path"):
        raise MixtureError(f"{where}: needs a json_path, got {shown(entry)}")
    for name, value in fields.items():
        if name != "weight" and not isinstance(value, str):
            raise MixtureError(f"{where}: {name}={shown(value)} must be a text; quote it")
        if name in CHOICES and value not in CHOICES[name]:
            raise MixtureError(f"{where}: {name}={shown(value)} must be one of {CHOICES[name]}")
    weight = fields.get("weight", 1.0)
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 < weight <= sys.float_info.max:
        raise MixtureError(f"{where}: weight={shown(weight)} must be a finite number above 0")
    return MixtureSet(**{**fields, "weight": float(weight)})


def _one_line(error: Exception, text: str) -> str:
    """Returns the problem and its line; yaml's own message takes several lines."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"the character {text[error.position]!r} is not allowed, in line {line}"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = getattr(error, "problem", None) or "invalid"
    return f"{problem}, in line {mark.line + 1}, column {mark.column + 1}"
