"""Compiles a program for an absent TPU and sums the compiler's estimates by group."""

from __future__ import annotations

import collections
import dataclasses
import time

import jax
from jax.sharding import Mesh

from xcomp_jax.launch.bench.cycles.groups import group_of
from xcomp_jax.launch.bench.cycles.hlo import Operation, operations
from xcomp_jax.launch.bench.cycles.program import REPEATS, Program

FLOPS_PER_CYCLE = {
    # Multiply-adds of all matrix units of a chip, bfloat16: 4 of 128 x 128, both cores of a v5p,
    # 8 x 128 x 256 on v6e. At 1.5, 1.75 and 1.75 GHz these are the vendor's figures.
    "v5e": 2 * 4 * 128 * 128,
    "v5p": 2 * 8 * 128 * 128,
    "v6e": 2 * 16 * 128 * 128,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated cycles of one part on one machine, kernels left out.

    Attributes:
        cycles: by group, largest first.
        floor: cycles of the matrix products at the peak of the matrix units.
        kernel_floor: the same for the kernels, which have no estimate.
        compile_cpu_s: processor seconds of compiling.
    """

    program: Program
    cycles: dict[str, int]
    floor: float
    kernel_floor: float
    compile_cpu_s: float
    largest: tuple[Operation, ...]

    @property
    def total(self) -> int:
        return sum(self.cycles.values())

    @property
    def share(self) -> float:
        """Share of the peak: the floor of the products by the cycles of everything."""
        return self.floor / self.total


def estimate(program: Program, machine: str, mesh: Mesh) -> Estimate:
    """Compiles `program`; the mesh must be in force (`preflight.machines.described`).

    Raises:
        ValueError: the compiler gives no estimates.
    """
    lowered = program.lower(mesh)
    began = time.process_time()
    text = lowered.compile().as_text()
    spent = time.process_time() - began
    jax.clear_caches()
    found = counted(operations(text), looped=program.looped)
    if program.outside_loop:
        found = [operation for operation in found if operation.runs == 1]
    cycles: collections.Counter[str] = collections.Counter()
    for operation in found:
        if operation.cycles is not None:
            cycles[group_of(operation)] += operation.cycles
    if not cycles:
        raise ValueError(f"the compiled {program.name} has no estimated cycles")
    per_cycle = FLOPS_PER_CYCLE[machine]
    return Estimate(
        program=program,
        cycles=dict(cycles.most_common()),
        floor=program.product_flops / per_cycle,
        kernel_floor=program.kernel_flops / per_cycle,
        compile_cpu_s=spent,
        largest=tuple(sorted(found, key=lambda op: op.cycles or 0, reverse=True)),
    )


def counted(found: list[Operation], *, looped: bool) -> list[Operation]:
    """Returns the operations of one part: all, or one iteration of the loops over layers."""
    if not looped:
        return found
    return [
        dataclasses.replace(
            operation,
            cycles=None if operation.cycles is None else operation.cycles // REPEATS,
            runs=operation.runs // REPEATS,
        )
        for operation in found
        if operation.runs % REPEATS == 0
    ]
