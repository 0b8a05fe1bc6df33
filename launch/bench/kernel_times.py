"""Sum the times of a GPU's kernels in a trace of JAX's profiler, by kind of kernel."""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

Row = dict[str, Any]

DEVICE_PLANES = "/device:GPU"
# The first kind whose mark is part of a kernel's name.
KINDS = {
    "attention": ("fmha", "attention", "flash"),
    "clip scores": ("clip_scores",),
    "products": ("gemm", "nvjet", "cutlass", "dot", "xmma", "cublas"),
    "copies and transposes": ("memcpy", "copy", "transpose", "slice", "concatenate", "pad"),
    "sorts": ("sort", "cub::"),
    "reductions": ("reduce",),
}


def profile(run: Callable[[], Any], folder: Path | None = None) -> Iterator[Row]:
    """Runs `run` twice, the second time traced, and yields time and share of each kind of kernel.

    Args:
        folder: where the trace is kept; None deletes it.

    Raises:
        ValueError: the device wrote no trace of its kernels, as CPUs do not.
    """
    jax.block_until_ready(run())
    with tempfile.TemporaryDirectory() as temporary:
        where = folder or Path(temporary)
        with jax.profiler.trace(str(where)):
            jax.block_until_ready(run())
        (path,) = where.rglob("*.xplane.pb")
        yield from rows(path)


def rows(path: Path) -> Iterator[Row]:
    """Yields time, share, calls and the longest kernel of each kind, the largest first."""
    kernels = times(path)
    whole = sum(ms for ms, _ in kernels.values())
    kinds: dict[str, list[tuple[float, int, str]]] = collections.defaultdict(list)
    for name, (ms, calls) in kernels.items():
        kinds[kind_of(name)].append((ms, calls, name))
    for kind, members in sorted(kinds.items(), key=lambda item: -sum(m[0] for m in item[1])):
        ms = sum(member[0] for member in members)
        yield {
            "kind": kind,
            "ms": ms,
            "share": f"{100 * ms / whole:.1f} %",
            "calls": sum(member[1] for member in members),
            "longest": max(members)[2][:60],
        }


def times(path: Path) -> dict[str, tuple[float, int]]:
    """Returns milliseconds and calls of every kernel by its name."""
    found: dict[str, tuple[float, int]] = {}
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        if not plane.name.startswith(DEVICE_PLANES):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                ms, calls = found.get(event.name, (0.0, 0))
                found[event.name] = (ms + event.duration_ns / 1e6, calls + 1)
    if not found:
        raise ValueError(f"{path} contains no kernel of a GPU; trace a run on a GPU")
    return found


def kind_of(name: str) -> str:
    """Returns the kind of a kernel by its name; "elementwise" if no mark is part of it."""
    lowered = name.lower()
    for kind, marks in KINDS.items():
        if any(mark in lowered for mark in marks):
            return kind
    return "elementwise"
