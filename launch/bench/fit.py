"""How many frames one device holds: the 2B prefill compiled for it, and the bytes it needs.

Needed are the parameters, the cache and what layers keep while they run. The first layers see the
longest sequence and need most, so a program of two distinct lengths is enough to know what layers
keep; parameters and cache are counted exactly. A line through two compiled sizes says where to
look; only a size that was compiled is known to fit, since compilers plan large programs otherwise.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import jax

from xcomp_jax.config import ModelConfig
from xcomp_jax.launch.bench import model
from xcomp_jax.launch.preflight.machines import GIB, MACHINES, described, shape
from xcomp_jax.models.xcomp import abstract_params

Row = dict[str, Any]

# Of the memory, for what a compiler does not know: other programs' buffers, fragmentation.
SPARE = 0.03


def measure(
    machines: list[str], frames: tuple[int, int], *, tiny: bool, whole: bool
) -> Iterator[Row]:
    """Two compiled sizes for every machine, and the largest number of frames they imply.

    whole: compile all the distinct lengths, which takes minutes for a TPU.
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
                    "GiB there": MACHINES[name].memory_bytes / GIB,
                }
            except jax.errors.JaxRuntimeError as error:  # how a compiler says that it does not fit
                row["note"] = str(error).splitlines()[0][:160]
            yield {**row, "compile_s": time.monotonic() - began}
        if len(points) == 2:
            largest = largest_frames(points[0], points[1], MACHINES[name].memory_bytes)
            yield {"machine": name, "frames": largest, "note": "where the line meets the memory"}


def largest_frames(first: tuple[int, int], second: tuple[int, int], memory_bytes: int) -> int:
    """Frames, a multiple of 8, at which a line through two (frames, bytes) meets the memory."""
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return int((memory_bytes * (1 - SPARE) - first[1]) / slope + first[0]) // 8 * 8


def prefill_bytes(machine: str, frames: int, *, tiny: bool = False, whole: bool = False) -> int:
    """Bytes of one device that fills the cache of `frames` frames and 863 text tokens."""
    config = model.model_config(tiny=tiny)
    compiled = config if whole else _two_lengths(config)
    with described(machine) as mesh:

        def absent(leaf: Any, dtype: Any = None) -> jax.ShapeDtypeStruct:
            return shape(mesh, leaf.shape, dtype or leaf.dtype)

        params = {"llm": abstract_params(config)["llm"]}
        params = jax.tree.map(lambda leaf: absent(leaf, config.compute_dtype), params)
        inputs = jax.eval_shape(lambda: model.prefill_inputs(config, frames))
        arguments = (params, *jax.tree.map(absent, inputs))
        analysis = model.jitted_prefill(compiled).lower(*arguments).compile().memory_analysis()
        result = jax.eval_shape(model.jitted_prefill(config), *arguments)
    return analysis.argument_size_in_bytes + _nbytes(result) + analysis.temp_size_in_bytes


def _two_lengths(config: ModelConfig) -> ModelConfig:
    coarse = dataclasses.replace(config.compression, max_distinct_lengths=2)
    return dataclasses.replace(config, compression=coarse)


def _nbytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
