"""Filling one array of ours, or one device's part of it, straight from the mapped files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from xcomp_jax.checkpoint.memory import aligned_empty
from xcomp_jax.convert.dtypes import count_non_finite, raw
from xcomp_jax.convert.layouts import Shape
from xcomp_jax.convert.plan import non_finite_problem
from xcomp_jax.convert.rules import Rule
from xcomp_jax.convert.safetensors_read import Tensor

Index = tuple[slice, ...]


@dataclasses.dataclass
class Leaf:
    """One array of ours: `sources` are its tensors, block by block for a stacked rule."""

    rule: Rule
    shape: Shape
    dtype: np.dtype
    sources: Sequence[Tensor]
    _not_finite: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def part(self, index: Index) -> np.ndarray:
        """The values at `index` of the whole array, in new memory of exactly that size."""
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
            np.copyto(raw(out), raw(source))
        else:
            with np.errstate(over="ignore"):
                np.copyto(out, source, casting="unsafe")
        if count_non_finite(out):
            self._not_finite[tensor.name] = tensor.values

    @property
    def problems(self) -> list[str]:
        """What filling found so far: one entry for each tensor whose values are not finite."""
        return [
            non_finite_problem(name, values, self.dtype.name)
            for name, values in self._not_finite.items()
        ]
