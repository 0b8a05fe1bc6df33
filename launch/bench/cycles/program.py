"""Describes a program whose cycles are estimated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

REPEATS = 2
"""Iterations of a loop over layers: with one, XLA would unroll it and drop what a loop costs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A part of the model at full size, for one device.

    Attributes:
        lower: traces the program for a mesh of one device.
        product_flops: operations of the matrix products of one part, kernels left out.
        kernel_flops: operations of its kernels, which have no estimate.
        per_1024_frames: number of runs that 1,024 frames need.
        looped: the part is a layer, the body of a loop with `REPEATS` iterations; what the program
            does outside the loop is left out.
        outside_loop: the part is what the program does outside the loop.
    """

    name: str
    lower: Callable[[Mesh], Any]
    product_flops: float
    kernel_flops: float
    per_1024_frames: float
    looped: bool = False
    outside_loop: bool = False
