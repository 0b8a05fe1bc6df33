"""Formats estimates as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.launch.bench.cycles.estimate import Estimate
from xcomp_jax.launch.bench.cycles.groups import group_of

NOTE = (
    "Estimates of the TPU compiler, not measurements: `estimated_cycles` of the operations in the "
    "compiled program. Kernels (attention, clip scores) and copies that run beside other "
    "operations have no estimate and are left out. The floor is the matrix products outside "
    "kernels at the peak of the matrix units."
)


def sections(estimates: Sequence[Estimate]) -> str:
    """Returns the table of shares, and that of the operation groups."""
    return f"{shares(estimates)}\n\n{groups(estimates)}"


def shares(estimates: Sequence[Estimate]) -> str:
    """Returns one row per program, with the cycles of all its runs for 1,024 frames."""
    rows = [
        (
            estimate.program.name,
            _millions(estimate.total),
            _millions(estimate.floor),
            f"{100 * estimate.share:.1f} %",
            _millions(estimate.kernel_floor),
            _millions(estimate.total * estimate.program.per_1024_frames),
            f"{estimate.compile_cpu_s:.0f}",
        )
        for estimate in estimates
    ]
    header = (
        "program",
        "cycles, millions",
        "floor",
        "share of peak",
        "floor of kernels, left out",
        "cycles per 1,024 frames",
        "CPU s to compile",
    )
    return _table(header, rows)


def groups(estimates: Sequence[Estimate]) -> str:
    """Returns one row per group of operations with its share of the program's cycles."""
    rows = [
        (estimate.program.name, group, _millions(cycles), f"{100 * cycles / estimate.total:.1f} %")
        for estimate in estimates
        for group, cycles in estimate.cycles.items()
    ]
    return _table(("program", "group", "cycles, millions", "of the program"), rows)


def largest(estimate: Estimate, count: int) -> str:
    """Returns the operations with the most cycles."""
    rows = [
        (
            operation.name,
            group_of(operation),
            _millions(operation.cycles or 0),
            operation.shape.partition("{")[0].lstrip("("),
            operation.names[0].rpartition("/")[0].rpartition(")/")[2] if operation.names else "",
        )
        for operation in estimate.largest[:count]
    ]
    return _table(("operation", "group", "cycles, millions", "shape", "source"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _millions(cycles: float) -> str:
    return f"{cycles / 1e6:,.3f}" if cycles < 1e6 else f"{cycles / 1e6:,.2f}"
