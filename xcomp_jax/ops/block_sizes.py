"""Block sizes of the kernels: a table keyed by device and rounded shape, with a safe default.

`block_sizes.json` holds sizes that were measured to be faster than a kernel's default:
{device kind: {"operation/shape": {field: size}}}. `xcomp bench blocks --write` adds entries for the
machine it runs on.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, TypeVar

TABLE = Path(__file__).with_name("block_sizes.json")

Blocks = TypeVar("Blocks", bound=Any)


def shape_key(operation: str, **sizes: int | bool) -> str:
    """Returns `operation/name1_name2...` with every size rounded up to a power of two."""
    rounded = {
        name: int(size) if isinstance(size, bool) else 1 << (size - 1).bit_length()
        for name, size in sizes.items()
    }
    return f"{operation}/" + "_".join(f"{name}{n}" for name, n in sorted(rounded.items()))


def tuned(default: Blocks, device_kind: str, key: str) -> Blocks:
    """Returns `default` with the table's fields for this device and shape."""
    return dataclasses.replace(default, **_table().get(device_kind, {}).get(key, {}))


@functools.cache
def _table() -> dict[str, dict[str, dict[str, int]]]:
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}


def evenly(length: int, largest: int, unit: int) -> int:
    """Finds the block size, a multiple of `unit` up to `largest`, that pads `length` least.

    >>> evenly(6272, 1024, 128)  # 49 units in 7 blocks instead of 6.1
    896
    """
    units = -(-length // unit)
    count = -(-units // (largest // unit))
    return -(-units // count) * unit
