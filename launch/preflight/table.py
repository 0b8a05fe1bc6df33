"""Compile the rows of the preflight table and print them as Markdown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.launch.preflight.rows import ROWS
from xcomp_jax.terminal.progress import ProgressBar

GIB = 2**30


def compile_rows(
    names: Sequence[str], folder: Path, *, quick: bool, encoded: bool
) -> dict[str, dict[str, Any]]:
    """Compiles the rows that have no file in `folder` yet; rows that fail are left out.

    Each row compiles in its own process, because compilers keep gigabytes until a process ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, Any]] = {}
    for name in ProgressBar(names, desc="compiling", unit="row"):
        whole_file, quick_file = (
            folder / f"{name}_{kind}{'_encoded' * encoded}.json" for kind in ("whole", "stages")
        )
        path = quick_file if quick and not whole_file.exists() else whole_file
        if not path.exists():
            command = [sys.executable, "-m", "xcomp_jax.launch.preflight", *ROWS[name].arguments()]
            command += ["--json", str(path)] + ["--quick"] * quick + ["--encoded"] * encoded
            subprocess.run(command, check=False)
        if path.exists():
            figures[name] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Returns a Markdown table with one line per row."""
    lines = [
        "| model, frames | topology | mesh | micro batches | GiB per device | fits "
        "| PFLOP per step | sent per device | lower bound of a step | compiled | cost |",
        "|" + "---|" * 11,
    ]
    lines += [_line(row) for row in figures.values()]
    return "\n".join(lines)


def _line(figures: dict[str, Any]) -> str:
    step, spent = figures["programs"][0], figures["spent"]
    whole = "first and last" not in step["program"]
    bounds = {"arithmetic": "compute_s", "memory": "memory_s", "links": "links_s"}
    bound = max(bounds, key=lambda name: step[bounds[name]])
    cells = [
        f"{figures['config']}, {figures['frames']:,}",
        figures["topology"],
        ", ".join(f"{axis} {n}" for axis, n in figures["mesh"].items() if n > 1),
        str(figures["micro batches"]),
        _memory(step, whole),
        "yes" if step["fits"] else "no",
        f"{(step['flops'] + step['recomputed']) / 1e15:.1f}",
        "unknown" if step["unread"] else f"{sum(step['sent_bytes'].values()) / 1e9:,.0f} GB",
        f"{step['floor_s']:.2f} s, {bound}",
        "whole step" if whole else "two layer groups",
        f"{spent['cpu_s'] / 60:.1f} CPU min, {spent['peak_gib']:.1f} GiB",
    ]
    return f"| {' | '.join(cells)} |"


def _memory(step: dict[str, Any], whole: bool) -> str:
    """Returns what the step needs of the capacity; `whole`: all of it was compiled."""
    memory, capacity, least = step["memory"], step["capacity_bytes"] / GIB, step["least_bytes"]
    needed = f"{memory['needed'] / GIB:.1f}" if memory else f"over {capacity:.1f}"
    if least is not None:
        at_least = f"at least {least / GIB:.1f}"
        needed = f"{needed}, {at_least}," if whole else at_least
    return f"{needed} of {capacity:.1f}"
