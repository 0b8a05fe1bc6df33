"""Bytes that devices exchange, read from a compiled program's text.

A loop's body is counted as often as it runs: compilers for GPUs and CPUs note it, for TPUs it is
read from the counter's limit and step. What a device sends in a ring is counted: for groups of n
devices (n - 1) / n of an all-gather's result and of what an all-to-all or a reduce-scatter takes
in, twice that of an all-reduce.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

UNKNOWN = "(made by the compiler)"

_BITS = {"pred": 8, "bf16": 16, "s4": 4, "u4": 4}
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]+)\]")
_OPERATION = re.compile(rf"^\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(
    r"(?:calls|to_apply|true_computation|false_computation|called_computations)="
    r"\{?(%[\w.\-]+(?:, ?%[\w.\-]+)*)\}?|branch_computations=\{([^}]*)\}"
)
# Of an operation's name, what only says how it came about.
_NOT_SOURCE = {"", "while", "body", "closed_call", "step", "checkpoint", "dot_general"}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    nbytes: what one device sends in one run of the program, all turns of the loops around it
    together; loops: the turns of each, outermost first; source: the operation of the model that it
    serves.
    """

    kind: str
    nbytes: float
    loops: tuple[int, ...]
    source: str


def by(name: str, collectives: Iterable[Collective]) -> dict[str, float]:
    """Bytes added up by `kind` or `source`, most first."""
    total: dict[str, float] = defaultdict(float)
    for one in collectives:
        total[getattr(one, name)] += one.nbytes
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def collectives(program: str, num_devices: int) -> list[Collective]:
    """Every collective of a program.

    Args:
        program: `compiled.as_text()`.
        num_devices: of a group that the text does not spell out.
    """
    computations, entry = _computations(program)
    found: list[Collective] = []

    def walk(name: str, loops: tuple[int, ...]) -> None:
        for line in computations.get(name, ()):
            for called in _called(line):
                walk(called, loops)
            if match := re.search(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)", line):
                turns = _turns(line, computations[match[1]], computations[match[2]])
                walk(match[2], (*loops, turns))
            match = _OPERATION.match(line)
            if match is None:
                continue
            kind, started = match[2], match[3] is not None
            if "all-reduce-scatter" in name:  # how TPUs write a reduce-scatter
                kind = "reduce-scatter of whole"
            group = _group_size(line, num_devices)
            nbytes = math.prod(loops) * _wire_bytes(kind, _nbytes(match[1]), group, started)
            found.append(Collective(match[2], nbytes, loops, _source(line)))

    walk(entry, ())
    return found


def _source(line: str) -> str:
    """`XComp.prefill/llm.prefill/layer/mlp/up_proj` from the operation's name."""
    match = re.search(r'op_name="([^"]*)"', line)
    if match is None:
        return UNKNOWN
    parts = re.findall(r"[\w.]+(?=[)/:]|$)", match[1])
    return "/".join(part for part in parts if part not in _NOT_SOURCE)


def _wire_bytes(kind: str, nbytes: float, group: int, started: bool) -> float:
    """`nbytes`: of the result; a started operation's is a pair of what goes in and what comes
    out."""
    share = (group - 1) / group
    match kind:
        case "all-gather":
            return share * (nbytes * group / (group + 1) if started else nbytes)
        case "all-reduce":
            return 2 * share * nbytes
        case "reduce-scatter":
            return share * (nbytes * group / (group + 1) if started else nbytes * group)
        case "collective-permute":
            return nbytes / 2 if started else nbytes
    return share * nbytes


def _computations(program: str) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in program.splitlines():
        if not line.startswith(" ") and (match := _COMPUTATION.match(line)):
            lines = found.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        else:
            lines.append(line)
    return found, entry


def _called(line: str) -> Iterator[str]:
    """Computations that an instruction runs once."""
    for match in _CALLED.finditer(line):
        for name in (match[1] or match[2]).split(","):
            yield name.strip().lstrip("%")


def _turns(line: str, condition: list[str], body: list[str]) -> int:
    """How often a loop runs, warning where that cannot be told."""
    if trips := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(trips[1])
    # counter < limit, both defined in the condition; counter + step at the counter's place of the
    # body's result.
    compared = re.search(r"ROOT .* compare\((%\S+), (%\S+)\), direction=LT", "\n".join(condition))
    if compared is not None:
        limit = _constant(compared[2], condition)
        place = re.search(r"index=(\d+)", _definition(compared[1], condition))
        if limit is not None and place is not None:
            return -(-limit // _step(int(place[1]), body))
    warnings.warn(f"collectives of a loop counted once: {line.strip()[:80]}", stacklevel=2)
    return 1


def _step(place: int, body: list[str]) -> int:
    root = next((one for one in body if one.lstrip().startswith("ROOT ")), "")
    made = re.findall(r"%[\w.\-]+", root.partition(" tuple(")[2].partition(")")[0])
    counter = _definition(made[place], body) if made else ""
    added = re.search(r" add\(%\S+, (%[\w.\-]+)\)", counter)
    return (added and _constant(added[1], body)) or 1


def _definition(name: str, lines: list[str]) -> str:
    return next((one for one in lines if re.match(rf"\s*(ROOT )?{re.escape(name)} = ", one)), "")


def _constant(name: str, lines: list[str]) -> int | None:
    value = re.search(r" constant\((\d+)\)", _definition(name, lines))
    return int(value[1]) if value else None


def _group_size(line: str, num_devices: int) -> int:
    if match := re.search(r"replica_groups=mesh\[([^]]*)\] ?\{([^}]*)\}", line):
        sizes = {axis: int(size) for axis, size in re.findall(r"('\w+')=(\d+)", match[1])}
        # An axis, or `'axis':(4)2`: a part of one, of size 2.
        axes = re.findall(r"('\w+')(?::\(\d+\)(\d+))?", match[2])
        return math.prod(int(part) if part else sizes[axis] for axis, part in axes)
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return match[1].count(",") + 1
    return num_devices


def _nbytes(shapes: str) -> float:
    """Of all arrays in `bf16[8,128]{1,0}` or a tuple of such; scalars there are flags."""
    total = 0.0
    for dtype, sizes in _ARRAY.findall(shapes):
        digits = re.search(r"\d+", dtype)
        bits = _BITS.get(dtype, int(digits[0]) if digits else 8)
        total += bits / 8 * math.prod(int(n) for n in sizes.split(","))
    return total
