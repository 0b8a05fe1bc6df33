"""The parameter tree as paths and shapes, asked of the model itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from flax import traverse_util

from xcomp_jax.config import CompressionConfig, ModelConfig
from xcomp_jax.models.xcomp import abstract_params

Shape = tuple[int, ...]


class CheckpointError(ValueError):
    """A folder that is not a checkpoint of this version, or contradicts itself."""


@functools.lru_cache(maxsize=16)
def _shapes(model: ModelConfig) -> tuple[tuple[str, Shape], ...]:
    flat = traverse_util.flatten_dict(abstract_params(model), sep="/")
    return tuple((path, tuple(leaf.shape)) for path, leaf in flat.items())


def param_shapes(model: ModelConfig) -> dict[str, Shape]:
    """Path -> shape of every parameter array of a model.

    A path joins the keys of the nested tree with `/`. Arrays of a stack carry its blocks first.
    """
    # LP-Comp has no parameters; leaving it out makes fewer models to trace.
    plain = CompressionConfig(schedule="none")
    return dict(_shapes(dataclasses.replace(model, compression=plain)))


def check_shapes(subject: object, model: ModelConfig, found: Mapping[str, Shape]) -> None:
    """Raises CheckpointError listing every difference between `found` and the model's arrays."""
    wanted = param_shapes(model)
    problems = [f"missing {path!r} {wanted[path]}" for path in wanted if path not in found]
    problems += [f"unexpected {path!r} {found[path]}" for path in found if path not in wanted]
    problems += [
        f"{path!r} is {found[path]}, the configuration asks for {wanted[path]}"
        for path in wanted
        if path in found and found[path] != wanted[path]
    ]
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise CheckpointError(f"{subject}: parameters and configuration disagree:{lines}")
