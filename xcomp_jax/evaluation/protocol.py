"""Loads the protocol of a benchmark: a published one by name, or a user's file."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from xcomp_jax.config import ConfigError, ProtocolConfig, from_dict, joined_names, to_dict

SYSTEMS = ("published", "vcf")


def load_protocol(benchmark: str, protocol: str | Path = "published") -> ProtocolConfig:
    """Loads `published`, `vcf` or the file at a path.

    Args:
        benchmark: name of a file in `configs/evaluation`: a task, or `videomme_subtitles`.

    Raises:
        ConfigError: no such protocol or file, or invalid values.
    """
    if str(protocol) in SYSTEMS:
        module = _shipped(benchmark)
        returned = module.get_config(str(protocol))
    else:
        returned = _user_module(Path(protocol)).get_config()
    values = returned.to_dict() if isinstance(returned, ConfigDict) else returned
    config: ProtocolConfig = from_dict(ProtocolConfig, values)
    if _benchmark_of(benchmark) != config.benchmark:
        raise ConfigError(
            f"the protocol {protocol} is one of {config.benchmark}, not of {benchmark}; set its "
            "benchmark"
        )
    return config


def departures(config: ProtocolConfig, base: ProtocolConfig) -> list[str]:
    """Lists the settings that differ from those of `base`, as "name: value instead of value"."""
    ours, theirs = joined_names(to_dict(config)), joined_names(to_dict(base))
    skipped = ("published", "not_pinned", "system")
    return [
        f"{name}: {ours.get(name)} instead of {theirs.get(name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if name.split(".")[0] not in skipped and ours.get(name) != theirs.get(name)
    ]


def _benchmark_of(name: str) -> str:
    return name.removesuffix("_subtitles")


def _shipped(benchmark: str) -> ModuleType:
    try:
        return importlib.import_module(f"xcomp_jax.configs.evaluation.{benchmark}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"no published protocol of {benchmark!r} in configs/evaluation; pass a file"
        ) from error


def _user_module(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"{path}: no such protocol; use {', '.join(SYSTEMS)} or a Python file")
    spec = importlib.util.spec_from_file_location("xcomp_protocol", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file; a protocol defines get_config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise ConfigError(f"{path}: cannot be run as Python: {error}") from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path}: defines no get_config()")
    return module
