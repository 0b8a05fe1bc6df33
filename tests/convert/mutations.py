"""Single mutations of a file, as disks, downloads and people make them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator
JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 10**30, 0.5, -2.0, 1e300, "", "text", "float16", "big"),
    *([], [1], [1, 2, 3], ["a"], {}, {"a": 1}, {"rope_type": "yarn"}, [[[]]], "\u0000", "../x"),
)


def mutate(path: Path, others: list[Path], rng: Random) -> str:
    """Applies one random mutation to a file; returns its description."""
    name = rng.choice(sorted(MUTATIONS))
    MUTATIONS[name](path, others, rng)
    return f"{path.name}: {name}"


def _flip_bit(path: Path, others: list[Path], rng: Random) -> None:
    raw = bytearray(path.read_bytes())
    if raw:
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    path.write_bytes(raw)


def _flip_early_bit(path: Path, others: list[Path], rng: Random) -> None:
    raw = bytearray(path.read_bytes())
    if raw:
        raw[rng.integers(min(len(raw), 64))] ^= 1 << rng.integers(8)
    path.write_bytes(raw)


def _replace_bytes(path: Path, others: list[Path], rng: Random) -> None:
    raw = bytearray(path.read_bytes())
    start, length = rng.integers(len(raw) + 1), rng.integers(1, 30)
    raw[start : start + length] = rng.bytes(length)
    path.write_bytes(raw)


def _remove_bytes(path: Path, others: list[Path], rng: Random) -> None:
    raw = bytearray(path.read_bytes())
    start = rng.integers(len(raw) + 1)
    del raw[start : start + rng.integers(1, 200)]
    path.write_bytes(raw)


def _insert_bytes(path: Path, others: list[Path], rng: Random) -> None:
    raw = bytearray(path.read_bytes())
    start = rng.integers(len(raw) + 1)
    raw[start:start] = rng.bytes(rng.integers(1, 30))
    path.write_bytes(raw)


def _truncate(path: Path, others: list[Path], rng: Random) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.integers(len(raw) + 1)])


def _append(path: Path, others: list[Path], rng: Random) -> None:
    path.write_bytes(path.read_bytes() + rng.bytes(rng.integers(1, 99)))


def _zero_tail(path: Path, others: list[Path], rng: Random) -> None:
    raw = path.read_bytes()
    keep = rng.integers(len(raw) + 1)
    path.write_bytes(raw[:keep] + b"\0" * (len(raw) - keep))


def _become_other_file(path: Path, others: list[Path], rng: Random) -> None:
    path.write_bytes(others[rng.integers(len(others))].read_bytes())


def _become_folder(path: Path, others: list[Path], rng: Random) -> None:
    path.unlink()
    path.mkdir()


def _become_link_to_itself(path: Path, others: list[Path], rng: Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _delete(path: Path, others: list[Path], rng: Random) -> None:
    path.unlink()


def _rename(path: Path, others: list[Path], rng: Random) -> None:
    path.rename(path.with_name(path.name + ".bak"))


def _change_json(path: Path, others: list[Path], rng: Random) -> None:
    """Replaces, removes or adds one value anywhere; the header of a safetensors file is JSON."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little") if path.suffix == ".safetensors" else None
    text, rest = (raw, b"") if length is None else (raw[8 : 8 + length], raw[8 + length :])
    try:
        value = json.loads(text)
    except ValueError:
        _flip_bit(path, others, rng)
        return
    text = json.dumps(_changed(value, rng)).encode()
    path.write_bytes(text if length is None else len(text).to_bytes(8, "little") + text + rest)


def _changed(value: Any, rng: Random) -> Any:
    keys: list[Any] = []
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys or rng.random() < 0.05:
        return JSON_VALUES[rng.integers(len(JSON_VALUES))]
    key = keys[rng.integers(len(keys))]
    kind = rng.random()
    if kind < 0.1:
        del value[key]
    elif kind < 0.15 and isinstance(value, dict):
        value[f"{key}x"] = value.pop(key)
    elif kind < 0.5 and isinstance(value[key], int | float):
        value[key] = value[key] * rng.choice([2, -1, 1000]).item()
    else:
        value[key] = _changed(value[key], rng)
    return value


MUTATIONS: dict[str, Callable[[Path, list[Path], Random], None]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_flip_bit, _flip_early_bit, _replace_bytes, _remove_bytes, _insert_bytes, _truncate),
        *(_append, _zero_tail, _become_other_file, _become_folder, _become_link_to_itself),
        *(_delete, _rename, _change_json),
    )
}


def copy_mutated(original: Path, folder: Path, rng: Random) -> str:
    """Copies `original` to `folder` with one mutation of one file; returns its description."""
    shutil.copytree(original, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # Most files are arrays; half of the mutations are of config.json and its neighbours.
    top = [path for path in files if path.parent == folder]
    config = folder / "config.json"
    path = [config, top[rng.integers(len(top))], files[rng.integers(len(files))]][
        rng.choice(3, p=[0.25, 0.25, 0.5])
    ]
    return f"{path.relative_to(folder).parent}/{mutate(path, files, rng)}"
