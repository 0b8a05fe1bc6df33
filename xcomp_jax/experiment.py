"""Loads configuration files and command-line overrides into a validated `ExperimentConfig`."""

from __future__ import annotations

import ast
import contextlib
import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_origin

from ml_collections import ConfigDict

from xcomp_jax.config import CompressionConfig, ConfigError, ExperimentConfig, from_dict, type_at
from xcomp_jax.data.messages import spelling_hint
from xcomp_jax.files import read_text

CONFIGS = Path(__file__).with_name("configs")


def load_experiment(path: Path, overrides: Iterable[str] = ()) -> ExperimentConfig:
    """Reads `get_config()` of a Python file and applies `field.path=value` overrides.

    Args:
        path: a file, or the bare name of a configuration in `xcomp_jax/configs`, such as `smoke`.

    Raises:
        ConfigError: no such file or function, an unknown field (with the nearest known ones), a
            value of the wrong type, or an invalid combination.
    """
    path = _file_of(path)
    values = _values(path)
    where = str(path)
    for override in overrides:
        _apply(values, override)
        where = f"{path} with --set"
    try:
        config: ExperimentConfig = from_dict(ExperimentConfig, values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if config.model.compression != CompressionConfig():
        raise ConfigError(
            f"model.compression={config.model.compression} has no effect: every stage has its "
            "own. Set stages.N.compression instead"
        )
    return config


def _values(path: Path) -> dict[str, Any]:
    """Runs a configuration file and returns the values of its get_config().

    Raises:
        ConfigError: the file fails; the message names the line and the error.
        TextError: it is not text.
    """
    if path.suffix != ".py":
        raise ConfigError(f"{path}: not a Python file; a configuration defines get_config()")
    values: dict[str, Any] = {"__name__": "xcomp_experiment", "__file__": str(path)}
    try:
        # Not by an import, which may run the bytecode of an older file of equal size and time.
        exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), values)
        returned = values["get_config"]() if callable(values.get("get_config")) else None
        returned = returned.to_dict() if isinstance(returned, ConfigDict) else returned
    except (SyntaxError, ImportError) as error:
        with contextlib.suppress(OSError):
            read_text(path)  # Python's own message does not name another encoding.
        raise ConfigError(f"{path}: cannot be run as Python: {error}") from error
    except Exception as error:  # The file is a program, which may raise anything.
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        raise ConfigError(f"{place}: {kind}{error}") from error
    if not isinstance(returned, dict):
        raise ConfigError(f"{path}: defines no get_config() that returns a ConfigDict")
    return returned


def _file_of(path: Path) -> Path:
    """Returns `path`, or the file of the configuration with that bare name."""
    named = CONFIGS / f"{path}.py"
    if path.is_file():
        return path
    if len(path.parts) == 1 and named.is_file():
        return named
    names = sorted(file.stem for file in CONFIGS.glob("[!_]*.py"))
    raise ConfigError(
        f"{str(path)!r}: no such configuration file{spelling_hint(path)}; give the path of one, "
        f"or a name: {', '.join(names)}"
    )


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} must read field=value, e.g. seed=1")
    node: Any = values
    *parents, last = name.split(".")
    for part in parents:
        node = node[_key(node, part, name, values)]
    hint, owner = type_at(ExperimentConfig, [*parents, last]), ".".join(parents)
    if node is None and hint is not None:
        raise ConfigError(
            f"no field {name!r}: {owner} is None in this configuration; set all of it, as in "
            f"--set \"{owner}={{'{last}': {text}}}\""
        )
    # The schema checks types and ranges; this only converts text to a value.
    node[_key(node, last, name, values)] = _value(text, hint)


def _key(node: Any, part: str, path: str, root: dict[str, Any]) -> Any:
    """Converts `part` of `path` to a key of `node`."""
    if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
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


def _value(text: str, hint: Any) -> Any:
    """Converts `text` to a value; fields of type str keep words such as `none` and `2024`."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        # Not a Python literal: the shell's true/false/none, or a plain word.
        value = {"true": True, "false": False, "none": None, "null": None}.get(text.lower(), text)
    words_only = hint is str or get_origin(hint) is Literal
    return text if words_only and not isinstance(value, str) else value
