"""Comparison of two checkpoints of either kind, tensor by tensor, with a report."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

from xcomp_jax.checkpoint.strict_json import format_json, read_json_object
from xcomp_jax.convert.activations import (
    ActivationDifference,
    compare_activations,
    first_difference,
)
from xcomp_jax.convert.config import differing_fields
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.folder import OpenCheckpoint, TorchCheckpoint, open_checkpoint
from xcomp_jax.convert.tensors import Comparison, compare
from xcomp_jax.terminal.progress import ProgressBar


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of `verify`, as text for people and as JSON for programs."""

    a: str
    b: str
    config_differences: list[str]
    tensors: list[Comparison]
    activations: list[ActivationDifference] = dataclasses.field(default_factory=list)

    @property
    def equal(self) -> bool:
        rows: list[Comparison | ActivationDifference] = [*self.tensors, *self.activations]
        return not self.config_differences and all(row.ok for row in rows)

    def text(self, *, full: bool) -> str:
        """Formats all tensors if `full`, otherwise those that are not identical."""
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
            lines += [*map(str, self.activations), first_difference(self.activations)]
        lines.append("EQUAL" if self.equal else "DIFFERENT")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values; numbers that are not finite become null."""
        return _finite_or_none({"equal": self.equal, **dataclasses.asdict(self)})

    def write(self, stem: Path) -> None:
        """Writes STEM.json and STEM.txt."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_name(stem.name + ".json").write_text(format_json(self.to_json()), "utf-8")
        stem.with_name(stem.name + ".txt").write_text(self.text(full=True) + "\n", encoding="utf-8")


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_none(item) for item in value]
    return value


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
        atol, rtol: |a - b| <= atol + rtol * |b| is accepted; default: only equality.
        allow_dtype: accepts another dtype if the values agree.
        activations: .npz file of recorded activations to compare the model of `b` with.
        activations_tolerance: see `compare_activations`.
        report: path of the files `report`.json and `report`.txt to write.
        progress: shows a bar on stderr.

    Raises:
        ConversionError, CheckpointError: a folder or the recording cannot be read.
    """
    if report is not None:
        _check_report(report, (a, b))
    left, right = open_checkpoint(a), open_checkpoint(b)
    # A stacked parameter holds many tensors: in its order, each parameter is read once.
    ordered = right if isinstance(left, TorchCheckpoint) else left
    names = list(dict.fromkeys([*ordered.shapes, *left.shapes, *right.shapes]))
    rows = [
        _compare(name, left, right, atol, rtol, allow_dtype)
        for name in ProgressBar(names, desc="comparing", unit="tensor", disable=not progress)
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


def _check_report(stem: Path, folders: tuple[Path, ...]) -> None:
    """Raises ConversionError if writing the report would replace something else."""
    path = stem.with_name(stem.name + ".json")
    real = Path(os.path.realpath(path))
    if inside := [folder for folder in folders if Path(os.path.realpath(folder)) in real.parents]:
        raise ConversionError(str(path), [f"lies inside {inside[0]}; choose another --report"])
    if path.exists():
        try:
            is_report = read_json_object(path).keys() >= {"equal", "tensors"}
        except ValueError:
            is_report = False
        if not is_report:
            problem = (
                "exists and is not a report of `xcomp convert verify`; choose another --report"
            )
            raise ConversionError(str(path), [problem])


def _compare(
    name: str,
    left: OpenCheckpoint,
    right: OpenCheckpoint,
    atol: float,
    rtol: float,
    allow_dtype: bool,
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


def _config_differences(left: OpenCheckpoint, right: OpenCheckpoint) -> list[str]:
    """Describes the fields that differ, except those that only one of the folders defines.

    The dtype is compared by the tensors, and a PyTorch config.json has no LP-Comp settings.
    """
    skipped = {"dtype"}
    if isinstance(left, TorchCheckpoint) or isinstance(right, TorchCheckpoint):
        skipped.add("compression")
    return [
        f"{name} is {a!r} in A and {b!r} in B"
        for name, a, b in differing_fields(left.model, right.model, without=skipped)
    ]
