"""Count the frames that fit one device, by compiling the prefill of the 2B model for it.

Memory holds the parameters, the cache and temporary buffers. The first layers have the longest
sequence and the largest buffers, so a program with two distinct lengths shows them; parameters and
cache are counted exactly. A line through two compiled sizes predicts the largest one. Only a
compiled size is known to fit, because compilers plan large programs differently.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Iterator
from typing import Any

import jax

from xcomp_jax.config import ModelConfig
from xcomp_jax.engine import programs
from xcomp_jax.launch.bench import model
from xcomp_jax.launch.preflight.machines import GIB, MACHINES, described, shape
from xcomp_jax.models.xcomp import XComp, abstract_params

Row = dict[str, Any]

# Share of memory kept free for buffers of other programs and fragmentation.
SPARE = 0.03


def measure(
    machines: list[str], frames: tuple[int, int], *, tiny: bool, whole: bool
) -> Iterator[Row]:
    """Yields two compiled sizes for every machine, and the largest number of frames they imply.

    Args:
        whole: compile all distinct lengths, which takes minutes for a TPU.
    """
    for name in machines:
        points = []
        for count in frames:
            began = time.monotonic()
            row: Row = {"machine": name, "frames": count}
            try:
                needed = prefill_bytes(name, count, tiny=tiny, whole=whole)
                points.append((count, needed))
                row |= {
                    "GiB needed": needed / GIB,
                    "GiB available": MACHINES[name].memory_bytes / GIB,
                }
            except jax.errors.JaxRuntimeError as error:  # the compiler ran out of device memory
                row["note"] = str(error).splitlines()[0][:160]
            yield {**row, "compile_s": time.monotonic() - began}
        if len(points) == 2:
            largest = largest_frames(points[0], points[1], MACHINES[name].memory_bytes)
            yield {"machine": name, "frames": largest, "note": "extrapolated to the whole memory"}


def largest_frames(first: tuple[int, int], second: tuple[int, int], memory_bytes: int) -> int:
    """Returns the frames, a multiple of 8, at which a line through two (frames, bytes) fills it."""
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return int((memory_bytes * (1 - SPARE) - first[1]) / slope + first[0]) // 8 * 8


def prefill_bytes(machine: str, frames: int, *, tiny: bool = False, whole: bool = False) -> int:
    """Returns the bytes per device of prefilling `frames` frames and 863 text tokens."""
    config = model.model_config(tiny=tiny)
    compiled = config if whole else _two_lengths(config)
    with described(machine) as mesh:

        def abstract(leaf: Any, dtype: Any = None) -> jax.ShapeDtypeStruct:
            return shape(mesh, leaf.shape, dtype or leaf.dtype)

        params = {"llm": abstract_params(config)["llm"]}
        params = jax.tree.map(lambda leaf: abstract(leaf, config.compute_dtype), params)
        inputs = jax.eval_shape(lambda: model.prefill_inputs(config, frames))
        arguments = (params, *jax.tree.map(abstract, inputs))
        program = programs.prefill.lower(XComp(compiled), *arguments).compile()
        analysis: Any = program.memory_analysis()
        result = jax.eval_shape(functools.partial(programs.prefill, XComp(config)), *arguments)
    return analysis.argument_size_in_bytes + _nbytes(result) + analysis.temp_size_in_bytes


def _two_lengths(config: ModelConfig) -> ModelConfig:
    coarse = dataclasses.replace(config.compression, max_distinct_lengths=2)
    return dataclasses.replace(config, compression=coarse)


def _nbytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
