"""What each array of ours is filled with, decided before any value is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from xcomp_jax.convert.dtypes import FLOATS, count_non_finite, raw
from xcomp_jax.convert.layouts import Shape
from xcomp_jax.convert.rules import Rule
from xcomp_jax.convert.safetensors_read import Tensor


@dataclasses.dataclass(frozen=True)
class Slot:
    """One tensor the original has to have: `block` counts in a stacked rule, else it is None."""

    name: str
    rule: Rule
    block: int | None
    shape: Shape


def slots(rules: Sequence[Rule], shapes: Mapping[str, Shape]) -> dict[str, Slot]:
    """Every tensor of the original by name, for a model whose arrays have `shapes`.

    Raises:
        ValueError: the table itself is wrong: a target without a rule, with two, or unknown.
    """
    targets = [rule.target for rule in rules]
    if sorted(targets) != sorted(shapes):
        raise ValueError(
            f"rule table: without a rule {sorted(set(shapes) - set(targets))}, unknown targets "
            f"{sorted(set(targets) - set(shapes))}, written twice "
            f"{sorted({t for t in targets if targets.count(t) > 1})}"
        )
    found: dict[str, Slot] = {}
    for rule in rules:
        shape = shapes[rule.target]
        blocks: Iterable[int | None] = range(shape[0]) if rule.stacked else (None,)
        one = rule.layout.source_shape(shape[1:] if rule.stacked else shape)
        for block in blocks:
            name = rule.source if block is None else rule.source_name(block)
            found[name] = Slot(name, rule, block, one)
    return found


def check_names_and_shapes(
    wanted: Mapping[str, Slot], rules: Sequence[Rule], tensors: Mapping[str, Tensor]
) -> list[str]:
    """Problems of a checkpoint that can be seen without its values: names, shapes, dtypes."""
    problems = []
    for name in sorted(wanted.keys() - tensors.keys()):
        problems.append(f"missing: {name!r} {wanted[name].shape}")
    for name, tensor in tensors.items():
        matching = [rule for rule in rules if rule.pattern.fullmatch(name)]
        if len(matching) > 1:
            targets = [rule.target for rule in matching]
            problems.append(f"matched twice: {name!r} would be written to each of {targets}")
        elif name not in wanted:
            reason = "no such block in this configuration" if matching else "no rule for it"
            problems.append(f"unexpected: {name!r} {tensor.shape} in {tensor.origin}, {reason}")
        elif tensor.shape != wanted[name].shape:
            problems.append(
                f"wrong shape: {name!r} is {tensor.shape}, the configuration asks for "
                f"{wanted[name].shape}"
            )
        if tensor.values is None:
            problems.append(
                f"wrong dtype: {name!r} is {tensor.dtype}, accepted are {sorted(FLOATS)}"
            )
    return problems


def check_finite(tensors: Iterable[Tensor]) -> list[str]:
    """Reads all values; a problem for each tensor with infinite or NaN entries."""
    problems = []
    for tensor in tensors:
        count = 0 if tensor.values is None else count_non_finite(tensor.values)
        if count:
            problems.append(f"not finite: {tensor.name!r} has {count} infinite or NaN values")
    return problems


def non_finite_problem(name: str, source: np.ndarray, dtype: str) -> str:
    """What is wrong with a tensor that is not finite as `dtype`: before the cast, or through it."""
    if count := count_non_finite(source):
        return f"not finite: {name!r} has {count} infinite or NaN values"
    with np.errstate(over="ignore"):
        count = sum(count_non_finite(row.astype(FLOATS[dtype])) for row in np.atleast_2d(source))
    return (
        f"overflow: {count} values of {name!r} ({source.dtype.name}) are too large for {dtype}; "
        "choose a wider --dtype"
    )


def equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Same shape, dtype and bits, compared row by row to keep working memory small."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return all(np.array_equal(x, y) for x, y in zip(raw(a), raw(b), strict=True))
