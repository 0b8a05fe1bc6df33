"""Two checkpoints of either kind, tensor by tensor, and the report about it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xcomp_jax.convert.activations import Departure, compare_activations, first_departure
from xcomp_jax.convert.compare import Comparison, compare
from xcomp_jax.convert.either import JaxCheckpoint, TorchCheckpoint, open_checkpoint
from xcomp_jax.convert.fields import differing_fields


@dataclasses.dataclass(frozen=True)
class Report:
    """What `verify` found; `text` for people, `to_json` for programs."""

    a: str
    b: str
    config_differences: list[str]
    tensors: list[Comparison]
    activations: list[Departure] = dataclasses.field(default_factory=list)

    @property
    def equal(self) -> bool:
        rows: list[Comparison | Departure] = [*self.tensors, *self.activations]
        return not self.config_differences and all(row.ok for row in rows)

    def text(self, *, full: bool) -> str:
        """A table of all tensors when `full`, else of those that are not identical."""
        rows = [row for row in self.tensors if full or row.verdict != "identical"]
        counts = Counter(row.verdict.split(":")[0] for row in self.tensors)
        lines = [
            f"A {self.a}",
            f"B {self.b}",
            *map("configuration: {}".format, self.config_differences),
        ]
        lines += [_line(row) for row in rows]
        lines.append(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
        if self.activations:
            lines += [*map(str, self.activations), first_departure(self.activations)]
        lines.append("EQUAL" if self.equal else "DIFFERENT")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {"equal": self.equal, **dataclasses.asdict(self)}

    def write(self, stem: Path) -> None:
        """Writes STEM.json and STEM.txt."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), indent=1) + "\n"
        stem.with_name(stem.name + ".json").write_text(text, encoding="utf-8")
        stem.with_name(stem.name + ".txt").write_text(self.text(full=True) + "\n", encoding="utf-8")


def _line(row: Comparison) -> str:
    line = f"{row.name}  {_pair(*row.shape)}  {_pair(*row.dtype)}  {row.verdict}"
    if row.max_abs is not None:
        line += f"  max_abs {row.max_abs:.3g}  max_rel {row.max_rel:.3g}  unequal {row.different}"
    if row.a is not None and row.b is not None:
        means, stds = _pair(*_round(row.a.mean, row.b.mean)), _pair(*_round(row.a.std, row.b.std))
        line += f"  mean {means}  std {stds}"
    return line


def _round(a: float, b: float) -> tuple[str, str]:
    return f"{a:.6g}", f"{b:.6g}"


def _pair(a: object, b: object) -> str:
    return str(a) if a == b else f"{a} | {b}"


def verify(
    a: Path,
    b: Path,
    *,
    atol: float = 0.0,
    rtol: float = 0.0,
    allow_dtype: bool = False,
    activations: Path | None = None,
    activations_tolerance: float = 1e-4,
    report: Path | None = None,
    progress: bool = False,
) -> Report:
    """Compares two checkpoint folders.

    Args:
        a, b: folders, each of either kind.
        atol, rtol: accepted is |a - b| <= atol + rtol * |b|; by default only equality.
        allow_dtype: accept another dtype when the values agree.
        activations: recorded .npz file that the model of `b` is run against, layer by layer.
        activations_tolerance: see `compare_activations`.
        report: written as `report`.json and `report`.txt.
        progress: shows a bar on stderr.

    Raises:
        ConversionError, CheckpointError: one of them cannot be read.
    """
    left, right = open_checkpoint(a), open_checkpoint(b)
    # Our arrays hold many tensors each; their order reads each array once.
    first = right if isinstance(left, TorchCheckpoint) else left
    names = list(dict.fromkeys([*first.shapes, *left.shapes, *right.shapes]))
    rows = [
        _compare(name, left, right, atol, rtol, allow_dtype)
        for name in tqdm(names, desc="comparing", unit="tensor", disable=not progress)
    ]
    result = Report(
        f"{a} ({left.kind})",
        f"{b} ({right.kind})",
        _config_differences(left, right),
        rows,
        compare_activations(b, activations, tolerance=activations_tolerance) if activations else [],
    )
    if report is not None:
        result.write(report)
    return result


Opened = TorchCheckpoint | JaxCheckpoint


def _compare(
    name: str, left: Opened, right: Opened, atol: float, rtol: float, allow_dtype: bool
) -> Comparison:
    shapes = left.shapes.get(name), right.shapes.get(name)
    dtypes = left.dtypes.get(name), right.dtypes.get(name)
    if shapes[0] is None or shapes[1] is None:
        verdict = f"only in {'A' if shapes[1] is None else 'B'}"
        return Comparison(name, verdict, False, shapes, dtypes)
    if shapes[0] != shapes[1]:
        return Comparison(name, "other shape", False, shapes, dtypes)
    return compare(
        name, left.read(name), right.read(name), atol=atol, rtol=rtol, allow_dtype=allow_dtype
    )


def _config_differences(left: Opened, right: Opened) -> list[str]:
    """Fields of the configurations that differ, leaving out what is not both folders' business.

    The dtype is judged by the tensors; LP-Comp is not part of the original's configuration.
    """
    skipped = {"dtype"}
    if isinstance(left, TorchCheckpoint) or isinstance(right, TorchCheckpoint):
        skipped.add("compression")
    return [
        f"{name} is {a!r} in A and {b!r} in B"
        for name, a, b in differing_fields(left.model, right.model, without=skipped)
    ]
