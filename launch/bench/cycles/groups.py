"""Sorts the operations of a compiled program into groups by what they do."""

from __future__ import annotations

from collections.abc import Callable

from xcomp_jax.launch.bench.cycles.hlo import Operation

PRODUCTS = "matrix products"
KERNELS = "kernels"

_MOVES = {"copy", "transpose", "bitcast", "reshape", "parameter", "tuple", "get-tuple-element"}
_CUTS = {"slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "pad"}


def _named(*words: str) -> Callable[[Operation], bool]:
    return lambda operation: any(word in name for word in words for name in operation.names)


def _holds(*opcodes: str) -> Callable[[Operation], bool]:
    return lambda operation: not operation.opcodes.isdisjoint(opcodes)


def _only_moves(operation: Operation) -> bool:
    return operation.opcodes <= _MOVES | {"fusion"}


# The first rule that an operation meets gives its group. What a fusion adds to a product counts
# with the product.
_RULES: tuple[tuple[str, Callable[[Operation], bool]], ...] = (
    (PRODUCTS, _holds("convolution", "dot")),
    (KERNELS, lambda operation: "custom-call" in operation.opcodes and _named("pallas")(operation)),
    ("sort and argmax", _holds("sort")),
    ("sort and argmax", _named("argmax", "argsort", "reduce_max", "top_k")),
    ("gathers and scatters", _holds("gather", "scatter")),
    ("copies and transposes", _only_moves),
    ("rotation", _named("/rope/")),
    ("norms", _named("norm")),
    ("activations", _named("erf", "gelu", "silu", "logistic")),
    ("slices and concatenations", _holds(*_CUTS)),
)
OTHER = "other elementwise"


def group_of(operation: Operation) -> str:
    """Returns the group of an operation, `OTHER` if no rule matches."""
    for name, matches in _RULES:
        if matches(operation):
            return name
    return OTHER
