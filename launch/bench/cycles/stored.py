"""Reads and writes the stored table of shares, a section of a Markdown file for each machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.files import write_text
from xcomp_jax.launch.bench.cycles.estimate import Estimate
from xcomp_jax.launch.bench.cycles.tables import sections

TOLERANCE = 5.0
"""Percentage points by which a share may fall below the stored one."""

# Of the first table only: rows of the second one end after the per cent.
_ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| [^|]+ \| ([\d.]+) % \| \S", re.MULTILINE)


def stored_shares(path: Path, machine: str) -> dict[str, float]:
    """Reads the share of every program of `machine`, in per cent.

    Raises:
        ValueError: the file has no table of the machine.
    """
    match = _section(machine).search(path.read_text(encoding="utf-8"))
    shares = {name: float(share) for name, share in _ROW.findall(match[0])} if match else {}
    if not shares:
        raise ValueError(
            f"{path} has no table of {machine}; add it with xcomp bench cycles {machine} "
            f"--write {path}"
        )
    return shares


def fallen(estimates: Sequence[Estimate], stored: dict[str, float]) -> list[str]:
    """Describes every share that is more than `TOLERANCE` points below the stored one."""
    return [
        f"{estimate.program.name}: {100 * estimate.share:.1f} % of the peak, stored "
        f"{stored[estimate.program.name]:.1f} %"
        for estimate in estimates
        if estimate.program.name in stored
        and 100 * estimate.share < stored[estimate.program.name] - TOLERANCE
    ]


def store(path: Path, machine: str, estimates: Sequence[Estimate]) -> None:
    """Replaces the section of `machine` in a Markdown file, or appends it."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Estimated cycles\n"
    section = f"## {machine}\n\n{sections(estimates)}\n"
    pattern = _section(machine)
    if pattern.search(text):
        text = pattern.sub(lambda _: section, text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    write_text(path, text)


def _section(machine: str) -> re.Pattern[str]:
    return re.compile(rf"^## {machine}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
