"""Conversion of nested mappings to validated dataclasses, and back."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """Invalid configuration; the message names the field, the value and a remedy."""


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with `message` unless `condition`."""
    if not condition:
        raise ConfigError(message)


def to_dict(config: Any) -> dict[str, Any]:
    """Converts to a nested plain dict (tuples become lists) for JSON and ConfigDict."""
    return dataclasses.asdict(
        config,
        dict_factory=lambda items: {
            key: list(value) if isinstance(value, tuple) else value for key, value in items
        },
    )


def joined_names(values: Any, prefix: str = "") -> dict[str, Any]:
    """Joins the names of nested mappings, and places of lists of mappings, by dots."""
    if isinstance(values, dict):
        items = {str(name): value for name, value in values.items()}
    elif isinstance(values, (list, tuple)) and values and isinstance(values[0], dict):
        items = {str(place): value for place, value in enumerate(values)}
    else:
        return {prefix: values}
    joined: dict[str, Any] = {}
    for name, value in items.items():
        joined |= joined_names(value, f"{prefix}.{name}" if prefix else name)
    return joined


def from_dict(schema: type, values: Any, path: str = "") -> Any:
    """Builds the dataclass `schema` from nested mappings.

    Raises:
        ConfigError: an unknown, missing or ill-typed field.
    """
    where = path or schema.__name__
    require(hasattr(values, "items"), f"{where}: expected a mapping of fields, got {values!r}")
    hints = get_type_hints(schema)
    known = {field.name: field for field in dataclasses.fields(schema)}
    unknown = [name for name, _ in values.items() if name not in known]
    require(
        not unknown,
        f"{where}: unknown field(s) {unknown}{_nearest(unknown, known)}; known: {sorted(known)}",
    )
    built = {
        name: _convert(hints[name], value, f"{path}.{name}" if path else name)
        for name, value in values.items()
    }
    missing = [
        name
        for name, field in known.items()
        if name not in built
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    require(not missing, f"{where}: missing field(s) {missing}")
    return schema(**built)


def type_at(schema: type, path: Sequence[str]) -> Any:
    """Returns the type of the field at `path` (names and indices), None without such a field."""
    hint: Any = schema
    for part in path:
        hint = _without_none(hint)
        if dataclasses.is_dataclass(hint):
            hint = get_type_hints(hint).get(part)
        else:
            hint = get_args(hint)[0] if get_origin(hint) is tuple else None
    return hint


def _without_none(hint: Any) -> Any:
    """Returns `X` of `X | None`, and any other type unchanged."""
    args = get_args(hint)
    return next(a for a in args if a is not type(None)) if type(None) in args else hint


def _nearest(unknown: Sequence[Any], known: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" for the first unknown name, or ""."""
    close = difflib.get_close_matches(str(unknown[0]), known, n=1) if unknown else []
    return f" (did you mean {close[0]!r}?)" if close else ""


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, path)  # type: ignore[arg-type]
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        require(
            isinstance(value, (list, tuple)),
            f"{path}={value!r} must be a list, such as ['projector', 'llm'] or [1, 2]",
        )
        return tuple(_convert(args[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        require(value in args, f"{path}={value!r} must be one of {list(args)}")
        return value
    if type(None) in args:
        if value is None:
            return None
        return _convert(_without_none(hint), value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        require(abs(value) < 2**1023, f"{path} has an integer that is too large for a float")
        return float(value)
    require(
        isinstance(value, hint) and (hint is bool or not isinstance(value, bool)),
        f"{path}={value!r} must be of type {hint.__name__}, got {type(value).__name__}",
    )
    return value
