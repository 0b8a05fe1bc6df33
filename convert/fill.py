"""Filling parameters from memory-mapped tensors, on the host or slice by slice on devices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.experimental import multihost_utils

from xcomp_jax.checkpoint import LazyArray, param_shapes
from xcomp_jax.checkpoint.lists import LISTED
from xcomp_jax.checkpoint.memory import aligned_empty
from xcomp_jax.config import MeshConfig, ModelConfig
from xcomp_jax.convert.diagnose_tensors import diagnose_tensors
from xcomp_jax.convert.errors import ConversionError, raise_problems
from xcomp_jax.convert.map import (
    Rule,
    check_finite,
    check_names_and_shapes,
    parameter_dtype,
    remove_tied_copy,
    rules_for,
    tensor_slots,
)
from xcomp_jax.convert.tensors import (
    Shape,
    Tensor,
    bit_view,
    compute_dtype,
    count_non_finite,
    float_dtype,
    non_finite_problem,
)
from xcomp_jax.models.quantized import Quantization, quantized_shapes, read_quantized
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.sharding import make_mesh, parameter_shardings
from xcomp_jax.terminal.progress import ProgressBar

Index = tuple[slice, ...]
Shardings = jax.sharding.Sharding | Mapping[str, Any]


@dataclasses.dataclass
class Leaf:
    """One parameter and the tensors that fill it, one per block for a stacked rule."""

    rule: Rule
    shape: Shape
    dtype: np.dtype
    sources: Sequence[Tensor]
    _not_finite: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def part(self, index: Index) -> np.ndarray:
        """Returns the values at `index` of the parameter in new memory of that size."""
        bounds = [s.indices(n)[:2] for s, n in zip(index, self.shape, strict=True)]
        out = aligned_empty(tuple(stop - start for start, stop in bounds), self.dtype)
        cut = tuple(slice(start, stop) for start, stop in bounds)
        if self.rule.stacked:
            first, last = bounds[0]
            for row, tensor in zip(out, self.sources[first:last], strict=True):
                self._copy(tensor, cut[1:], row)
        else:
            self._copy(self.sources[0], cut, out)
        return out

    def whole(self) -> np.ndarray:
        return self.part((slice(None),) * len(self.shape))

    def _copy(self, tensor: Tensor, cut: Index, out: np.ndarray) -> None:
        assert tensor.values is not None, tensor.name
        source = self.rule.layout.to_target(tensor.values)[cut]
        if source.dtype == out.dtype:
            np.copyto(bit_view(out), bit_view(source))
        else:
            with np.errstate(over="ignore"):
                np.copyto(out, source, casting="unsafe")
        if count_non_finite(out):
            self._not_finite[tensor.name] = tensor.values

    @property
    def problems(self) -> list[str]:
        """Tensors with non-finite values among the parts filled so far."""
        return [
            non_finite_problem(name, values, self.dtype.name)
            for name, values in self._not_finite.items()
        ]


def plan_leaves(
    subject: object,
    tensors: dict[str, Tensor],
    model: ModelConfig,
    *,
    dtype: str | None,
    declared: str | None,
) -> tuple[ModelConfig, list[Leaf]]:
    """Assigns tensors to parameters; values are read only to complete an error message.

    Args:
        subject: source of the tensors, for messages.
        tensors: by PyTorch name.
        model: configuration; the result has the compute dtype that fits the stored dtype.
        dtype: of the parameters; default: that of the tensors.
        declared: `torch_dtype` of config.json, if present.

    Raises:
        ConversionError: lists every missing, unexpected, ambiguous, ill-shaped, ill-typed or
            non-finite tensor.
    """
    rules, shapes = rules_for(model), param_shapes(model)
    slots = tensor_slots(rules, shapes)
    tensors, problems = remove_tied_copy(tensors, model)
    problems += check_names_and_shapes(slots, rules, tensors)
    if len(problems) > LISTED and (diagnosis := diagnose_tensors(model, slots, tensors)):
        raise ConversionError(str(subject), problems, diagnosis)
    stored, dtype_problems = parameter_dtype(tensors, dtype, declared)
    problems += dtype_problems
    if problems:
        # Nothing will be filled, so values are checked here: one error lists everything.
        raise_problems(subject, problems + check_finite(tensors.values()))
    leaves = []
    for rule in rules:
        shape = shapes[rule.target]
        blocks = range(shape[0]) if rule.stacked else range(1)
        sources = [tensors[rule.source_name(block)] for block in blocks]
        leaves.append(Leaf(rule, shape, float_dtype(stored), sources))
    return dataclasses.replace(model, dtype=compute_dtype(stored)), leaves


def fill_tree(
    subject: object,
    leaves: Sequence[Leaf],
    shardings: Shardings | None,
    *,
    progress: bool,
    quantization: Quantization | None = None,
) -> dict[str, Any]:
    """Reads all parameters into host memory (`shardings=None`) or onto devices.

    Args:
        quantization: see `load_torch_checkpoint`; only without shardings.

    Raises:
        ConversionError: lists every tensor with non-finite values.
    """
    if isinstance(shardings, Mapping):
        by_path = traverse_util.flatten_dict(shardings, sep="/")
    else:
        by_path = {leaf.rule.target: shardings for leaf in leaves}
    flat: dict[str, Any] = {}
    for leaf in ProgressBar(leaves, desc="reading", unit="array", disable=not progress):
        path = leaf.rule.target
        if quantization and len(quantized_shapes(path, leaf.shape)) > 1:
            assert shardings is None
            flat |= read_quantized(path, leaf.shape, leaf.part)
        elif by_path[path] is None:
            flat[path] = leaf.whole()
        else:
            flat[path] = jax.make_array_from_callback(leaf.shape, by_path[path], leaf.part)
    problems = [problem for leaf in leaves for problem in leaf.problems]
    # A collective call: every process takes part, also one that has problems itself.
    other_problems = _other_process_problems(len(problems))
    raise_problems(subject, problems or other_problems)
    return traverse_util.unflatten_dict(flat, sep="/")


def _other_process_problems(count: int) -> list[str]:
    """Lists processes with problems: all must stop together, otherwise the rest would hang."""
    if jax.process_count() == 1:
        return []
    counts = multihost_utils.process_allgather(np.int32(count))
    return [
        f"process {process} has {count} problem(s), see its output"
        for process, count in enumerate(counts)
        if count
    ]


def lazy_tree(leaves: Sequence[Leaf], bar: ProgressBar) -> dict[str, Any]:
    """Returns the parameters as arrays that are read while they are written.

    `Leaf.problems` is complete once everything has been written.
    """

    def read(leaf: Leaf, rows: slice) -> Any:
        values = leaf.part((rows, *(slice(0, size) for size in leaf.shape[1:])))
        bar.update(values.nbytes)
        return values

    def lazy(leaf: Leaf) -> LazyArray:
        return LazyArray(leaf.shape, leaf.dtype, lambda rows: read(leaf, rows))

    return traverse_util.unflatten_dict({leaf.rule.target: lazy(leaf) for leaf in leaves}, sep="/")


def mesh_shardings(model: ModelConfig, config: MeshConfig) -> Any:
    """Returns a sharding for every parameter, on the devices of all processes.

    Raises:
        ConfigError: the mesh does not fit the devices, or an axis does not divide a parameter.
    """
    return parameter_shardings(abstract_params(model), make_mesh(config))
