"""Reads the operations of a compiled TPU program and the compiler's estimate of their cycles."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

# Opcodes of instructions whose work is that of the computations they call.
_CALLS = ("while", "conditional", "call", "async-start")
# `to_apply` of other opcodes, such as a reduction, runs for every element and has no estimate.
_BODIES = re.compile(r"(?:body|calls|to_apply|(?:true|false)_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_FUSED = re.compile(r"calls=%([\w.\-]+)")
_START = re.compile(r"^\s+(?:ROOT )?%[\w.\-]+ = ")
_HEADER = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CONDITION = re.compile(r"condition=%([\w.\-]+)")
_CONSTANT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """One instruction that a program runs.

    Attributes:
        cycles: estimated cycles of all its runs; None if the compiler gives no estimate.
        runs: number of runs, more than 1 in a loop.
        opcodes: its own opcode and, of a fusion, those of the fused instructions.
        names: `op_name` of the instruction and of the fused ones.
        shape: shape and layout of the result.
    """

    name: str
    cycles: int | None
    runs: int
    opcodes: frozenset[str]
    names: tuple[str, ...]
    shape: str


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    text: str


def operations(text: str) -> list[Operation]:
    """Lists what the entry computation of optimized HLO `text` runs, loops and calls included.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = _computations(text)
    return list(_run(computations, entry, 1))


def _run(computations: dict[str, list[_Instruction]], name: str, runs: int) -> Iterator[Operation]:
    for instruction in computations[name]:
        if instruction.opcode in _CALLS:
            times = runs * _iterations(computations, instruction)
            for called in _called(instruction.text):
                yield from _run(computations, called, times)
        else:
            yield _operation(computations, instruction, runs)


def _iterations(computations: dict[str, list[_Instruction]], instruction: _Instruction) -> int:
    """Returns the bound up to which a loop of JAX counts; 1 if its condition has none."""
    condition = _CONDITION.search(instruction.text)
    if condition is None:
        return 1
    bounds = [
        int(match[1])
        for inner in _inside(computations, [condition[1]])
        if (match := _CONSTANT.search(inner.text))
    ]
    return bounds[0] if len(bounds) == 1 else 1


def _called(text: str) -> list[str]:
    branches = _BRANCHES.search(text)
    names = re.findall(r"%([\w.\-]+)", branches[1]) if branches else []
    return names + _BODIES.findall(text)


def _operation(
    computations: dict[str, list[_Instruction]], instruction: _Instruction, runs: int
) -> Operation:
    fused = []
    if instruction.opcode == "fusion":
        fused = list(_inside(computations, _FUSED.findall(instruction.text)))
    cycles = _CYCLES.search(instruction.text)
    texts = [instruction.text, *(inner.text for inner in fused)]
    return Operation(
        name=instruction.name,
        cycles=int(cycles[1]) * runs if cycles else None,
        runs=runs,
        opcodes=frozenset([instruction.opcode, *(inner.opcode for inner in fused)]),
        names=tuple(match[1] for text in texts if (match := _NAME.search(text))),
        shape=instruction.shape,
    )


def _inside(
    computations: dict[str, list[_Instruction]], names: list[str]
) -> Iterator[_Instruction]:
    for name in names:
        for instruction in computations[name]:
            yield instruction
            if instruction.opcode == "fusion":
                yield from _inside(computations, _FUSED.findall(instruction.text))


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    found: dict[str, list[_Instruction]] = {}
    entry, name = None, None
    for line in _whole_lines(text):
        if header := _HEADER.match(line):
            name = header[2]
            found[name] = []
            entry = name if header[1] else entry
        elif line == "}":
            name = None
        elif name is not None and _START.match(line):
            found[name].append(_instruction(line))
    if entry is None:
        raise ValueError("the text of the compiled program has no entry computation")
    return found, entry


def _whole_lines(text: str) -> Iterator[str]:
    """Joins instructions that a kernel's metadata spreads over several lines."""
    whole = ""
    for line in text.splitlines():
        if line == "}" or _START.match(line) or _HEADER.match(line):
            yield whole
            whole = line
        else:
            whole += line
    yield whole


def _instruction(line: str) -> _Instruction:
    name, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    end = _shape_end(rest)
    opcode = rest[end:].strip().partition("(")[0]
    return _Instruction(name.lstrip("%"), rest[:end], opcode, rest)


def _shape_end(text: str) -> int:
    """Returns the end of a shape, which is a tuple in parentheses or has no spaces."""
    if not text.startswith("("):
        return text.index(" ")
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place + 1
    return len(text)
