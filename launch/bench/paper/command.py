"""Runs `xcomp bench paper`: resolves the arguments, runs the missing rows and writes the tables."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcomp_jax.files import read_json, write_json
from xcomp_jax.launch.bench.paper.arguments import ROLES
from xcomp_jax.token_store.locks import EXCLUSIVE, locked

DEFAULT_SEEDS = (1, 2, 3)
SETTINGS = "settings.json"


def run(options: argparse.Namespace) -> int:
    """Runs the missing rows of every requested table; returns the exit code.

    Raises:
        ValueError: wrong options, checkpoints or data, or `--out` belongs to other settings.
    """
    checkpoints = parse_checkpoints(options.checkpoint)
    if checkpoints and (options.seeds is not None or options.set):
        raise ValueError("--seeds and --set are for tiny models; leave them out with --checkpoint")
    if not checkpoints and options.data is not None:
        raise ValueError("--data needs --checkpoint; tiny models use generated videos")
    seeds = tuple(options.seeds or DEFAULT_SEEDS)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {' '.join(map(str, seeds))}: list every seed once")
    out = options.out.expanduser()
    out.mkdir(parents=True, exist_ok=True)
    # Heavy imports wait until here, so that errors above and --help are fast.
    from xcomp_jax.engine.compilation import use_compilation_cache

    use_compilation_cache(options.cache_dir.expanduser())
    with locked(out / "lock", EXCLUSIVE, wait=False) as lock:
        if lock is None:
            raise ValueError(f"another process is filling tables in {out}; wait for it to end")
        _claim(out, _settings(options, checkpoints, seeds))
        return _run_tables(options, checkpoints, seeds, out)


def parse_checkpoints(arguments: list[str]) -> dict[str, Path]:
    """Returns the folders by role.

    Raises:
        ValueError: unknown role, a role twice, or a folder without a checkpoint.
    """
    found: dict[str, Path] = {}
    for text in arguments:
        role, separator, folder = text.partition("=")
        if not separator:
            role, folder = "progressive", text
        if role not in ROLES:
            raise ValueError(f"--checkpoint {text}: role {role!r} is not one of {', '.join(ROLES)}")
        if role in found:
            raise ValueError(f"--checkpoint {text}: the role {role} has {found[role]} already")
        path = Path(folder).expanduser()
        if not (path / "config.json").is_file():
            raise ValueError(f"--checkpoint {text}: {path} holds no checkpoint (no config.json)")
        found[role] = path
    return found


def _run_tables(
    options: argparse.Namespace, checkpoints: dict[str, Path], seeds: tuple[int, ...], out: Path
) -> int:
    from xcomp_jax.launch.bench.paper.real import RealTables
    from xcomp_jax.launch.bench.paper.toy_tables import ToyTables
    from xcomp_jax.training.stopping import Stopped, stopping_on_sigterm
    from xcomp_jax.training.supervise import EXIT_CONTINUE

    progress = not options.quiet
    try:
        with stopping_on_sigterm() as stop:
            tables: Any
            if checkpoints:
                tables = RealTables(
                    checkpoints, options.data, out, limit=options.limit, progress=progress
                )
            else:
                tables = ToyTables.of(options.set, seeds, out, options.limit, stop, progress)
            for name in dict.fromkeys(options.table):
                print(f"table {name}: {tables.write(name)}")
    except Stopped as stopped:
        print(f"xcomp bench paper: {stopped}", file=sys.stderr)
        return EXIT_CONTINUE
    return 0


def _settings(
    options: argparse.Namespace, checkpoints: Mapping[str, Path], seeds: tuple[int, ...]
) -> dict[str, Any]:
    """Returns what every result of the folder depends on; files by size and time, not content."""
    data = None if options.data is None else str(options.data.expanduser().resolve())
    if checkpoints:
        return {
            "checkpoints": {role: _files(folder) for role, folder in sorted(checkpoints.items())},
            "data": data,
            "limit": options.limit,
        }
    return {"seeds": list(seeds), "set": sorted(options.set), "limit": options.limit}


def _files(folder: Path) -> str:
    listing = [
        (str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Writes the settings, or checks that they are those of the folder's results."""
    path = out / SETTINGS
    if not path.is_file():
        write_json(path, settings)
        return
    stored = read_json(path)
    if stored != settings:
        names = sorted(settings.keys() | stored.keys())
        changed = [name for name in names if settings.get(name) != stored.get(name)]
        listed = "; ".join(
            f"{name}: {settings.get(name)} instead of {stored.get(name)}" for name in changed
        )
        raise ValueError(f"{out} holds results of other settings ({listed}); choose another --out")
