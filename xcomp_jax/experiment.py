"""Configuration files and command-line overrides into one validated `ExperimentConfig`."""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xcomp_jax.config import ConfigError, ExperimentConfig, from_dict


def load_experiment(path: Path, overrides: Iterable[str] = ()) -> ExperimentConfig:
    """Reads `get_config()` of a Python file and applies `field.path=value` overrides.

    Raises:
        ConfigError: no such file or function, an unknown field (the nearest ones are named), a
            value of the wrong type, or a combination that cannot be.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such configuration file; the repository has some in configs/"
        )
    spec = importlib.util.spec_from_file_location("xcomp_experiment", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file; a configuration defines get_config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise ConfigError(f"{path}: cannot be run as Python: {error}") from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path}: defines no get_config() that returns a ConfigDict")
    made = module.get_config()
    values = made.to_dict() if isinstance(made, ConfigDict) else made
    for override in overrides:
        _apply(values, override)
    return from_dict(ExperimentConfig, values)


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} must read field=value, e.g. seed=1")
    node: Any = values
    *parents, last = name.split(".")
    for part in parents:
        node = node[_key(node, part, name, values)]
    # Types and ranges are the schema's business; here only text becomes a value.
    node[_key(node, last, name, values)] = _literal(text)


def _key(node: Any, part: str, path: str, root: dict[str, Any]) -> Any:
    """`part` of `path` as a key of `node`."""
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return int(part)
    if isinstance(node, dict) and part in node:
        return part
    known = list(_paths(root))
    near = difflib.get_close_matches(path, known, n=3) or known[:10]
    raise ConfigError(f"no field {path!r} in this configuration; nearest: {', '.join(near)}")


def _paths(node: Any, prefix: str = "") -> Iterable[str]:
    if isinstance(node, dict):
        items: Iterable[tuple[Any, Any]] = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    else:
        return
    for key, value in items:
        path = f"{prefix}{key}"
        yield path
        yield from _paths(value, f"{path}.")


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        # Not a Python literal: the shell's true/false/none, or a plain word.
        return {"true": True, "false": False, "none": None, "null": None}.get(text.lower(), text)
