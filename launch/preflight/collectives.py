"""Count the bytes that devices exchange, from the text of a compiled program.

The body of a loop counts once per iteration. Compilers for GPUs and CPUs record the number of
iterations; for TPUs it is derived from the limit and step of the loop counter. Bytes are those that
one device sends in a ring of n devices: (n - 1) / n of the result of an all-gather and of the input
of an all-to-all or reduce-scatter, and twice that share of an all-reduce.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

UNKNOWN = "(added by the compiler)"

_BITS = {"pred": 8, "bf16": 16, "s4": 4, "u4": 4}
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]+)\]")
_OPERATION = re.compile(rf"^\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(
    r"(?:calls|to_apply|true_computation|false_computation|called_computations)="
    r"\{?(%[\w.\-]+(?:, ?%[\w.\-]+)*)\}?|branch_computations=\{([^}]*)\}"
)
# Parts of an operation's name that come from tracing, not from the model.
_TRACING_PARTS = {"", "while", "body", "closed_call", "step", "checkpoint", "dot_general"}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation of a program.

    Attributes:
        nbytes: bytes that one device sends in one run of the program, over all iterations of the
            enclosing loops.
        loops: iterations of each enclosing loop, outermost first.
        source: operation of the model that needs the collective.
    """

    kind: str
    nbytes: float
    loops: tuple[int, ...]
    source: str


def by(name: str, collectives: Iterable[Collective]) -> dict[str, float]:
    """Sums the bytes by `kind` or `source`, largest first."""
    total: dict[str, float] = defaultdict(float)
    for collective in collectives:
        total[getattr(collective, name)] += collective.nbytes
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def collectives(program: str, num_devices: int) -> list[Collective]:
    """Lists every collective of a program.

    Args:
        program: text of the compiled program, `compiled.as_text()`.
        num_devices: group size of collectives whose text gives none.
    """
    computations, entry = _computations(program)
    results: list[Collective] = []

    def walk(name: str, loops: tuple[int, ...]) -> None:
        for line in computations.get(name, ()):
            for called in _called(line):
                walk(called, loops)
            if match := re.search(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)", line):
                count = _iterations(line, computations[match[1]], computations[match[2]])
                walk(match[2], (*loops, count))
            match = _OPERATION.match(line)
            if match is None:
                continue
            kind, started = match[2], match[3] is not None
            if "all-reduce-scatter" in name:  # the form of a reduce-scatter on TPUs
                kind = "reduce-scatter of whole"
            group = _group_size(line, num_devices)
            nbytes = math.prod(loops) * _wire_bytes(kind, _nbytes(match[1]), group, started)
            results.append(Collective(match[2], nbytes, loops, _source(line)))

    walk(entry, ())
    return results


def _source(line: str) -> str:
    """Reads `XComp.prefill/llm.prefill/layer/mlp/up_proj` from the operation's name."""
    match = re.search(r'op_name="([^"]*)"', line)
    if match is None:
        return UNKNOWN
    parts = re.findall(r"[\w.]+(?=[)/:]|$)", match[1])
    return "/".join(part for part in parts if part not in _TRACING_PARTS)


def _wire_bytes(kind: str, nbytes: float, group: int, started: bool) -> float:
    """Returns the bytes that one device sends for a result of `nbytes`.

    started: an asynchronous operation, whose result is the pair of input and output.
    """
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
    bodies: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in program.splitlines():
        if not line.startswith(" ") and (match := _COMPUTATION.match(line)):
            lines = bodies.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        else:
            lines.append(line)
    return bodies, entry


def _called(line: str) -> Iterator[str]:
    """Yields the computations that an instruction runs once."""
    for match in _CALLED.finditer(line):
        for name in (match[1] or match[2]).split(","):
            yield name.strip().lstrip("%")


def _iterations(line: str, condition: list[str], body: list[str]) -> int:
    """Returns the number of iterations of a loop; warns and returns 1 if it is unknown."""
    if trips := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(trips[1])
    # The condition defines counter < limit; the body returns counter + step in the counter's place.
    compared = re.search(r"ROOT .* compare\((%\S+), (%\S+)\), direction=LT", "\n".join(condition))
    if compared is not None:
        limit = _constant(compared[2], condition)
        place = re.search(r"index=(\d+)", _definition(compared[1], condition))
        if limit is not None and place is not None:
            return -(-limit // _step(int(place[1]), body))
    warnings.warn(
        f"unknown number of iterations, collectives counted once: {line.strip()[:80]}",
        stacklevel=2,
    )
    return 1


def _step(place: int, body: list[str]) -> int:
    root = next((line for line in body if line.lstrip().startswith("ROOT ")), "")
    results = re.findall(r"%[\w.\-]+", root.partition(" tuple(")[2].partition(")")[0])
    counter = _definition(results[place], body) if results else ""
    added = re.search(r" add\(%\S+, (%[\w.\-]+)\)", counter)
    return (added and _constant(added[1], body)) or 1


def _definition(name: str, lines: list[str]) -> str:
    pattern = re.compile(rf"\s*(ROOT )?{re.escape(name)} = ")
    return next((line for line in lines if pattern.match(line)), "")


def _constant(name: str, lines: list[str]) -> int | None:
    value = re.search(r" constant\((\d+)\)", _definition(name, lines))
    return int(value[1]) if value else None


def _group_size(line: str, num_devices: int) -> int:
    if match := re.search(r"replica_groups=mesh\[([^]]*)\] ?\{([^}]*)\}", line):
        sizes = {axis: int(size) for axis, size in re.findall(r"('\w+')=(\d+)", match[1])}
        # Either an axis, or `'axis':(4)2`, a part of size 2 of an axis.
        axes = re.findall(r"('\w+')(?::\(\d+\)(\d+))?", match[2])
        return math.prod(int(part) if part else sizes[axis] for axis, part in axes)
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return match[1].count(",") + 1
    return num_devices


def _nbytes(shapes: str) -> float:
    """Returns the bytes of all arrays in `bf16[8,128]{1,0}` or a tuple of such.

    Scalars are flags of the operation and do not count.
    """
    total = 0.0
    for dtype, sizes in _ARRAY.findall(shapes):
        digits = re.search(r"\d+", dtype)
        bits = _BITS.get(dtype, int(digits[0]) if digits else 8)
        total += bits / 8 * math.prod(int(n) for n in sizes.split(","))
    return total
