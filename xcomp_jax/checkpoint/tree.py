"""Derives paths and shapes of the parameter tree from the model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from flax import traverse_util

from xcomp_jax.checkpoint.lists import bullets
from xcomp_jax.config import CompressionConfig, ModelConfig
from xcomp_jax.models.xcomp import abstract_params

Shape = tuple[int, ...]


class CheckpointError(ValueError):
    """Raised when a folder is not a checkpoint of this version, or is inconsistent."""


@functools.lru_cache(maxsize=16)
def _shapes(model: ModelConfig) -> tuple[tuple[str, Shape], ...]:
    flat = traverse_util.flatten_dict(abstract_params(model), sep="/")
    return tuple((path, tuple(leaf.shape)) for path, leaf in flat.items())


def param_shapes(model: ModelConfig) -> dict[str, Shape]:
    """Returns path -> shape for every parameter of a model.

    A path joins the keys of the nested tree with `/`. Arrays of a stack of blocks have the blocks
    as their first axis.
    """
    # LP-Comp has no parameters; without it, fewer distinct models are traced and cached.
    plain = CompressionConfig(schedule="none")
    return dict(_shapes(dataclasses.replace(model, compression=plain)))


def check_shapes(subject: object, model: ModelConfig, shapes: Mapping[str, Shape]) -> None:
    """Raises CheckpointError listing every difference between `shapes` and the model's arrays."""
    expected = param_shapes(model)
    problems = [f"missing {path!r} {expected[path]}" for path in expected if path not in shapes]
    problems += [f"unexpected {path!r} {shapes[path]}" for path in shapes if path not in expected]
    problems += [
        f"{path!r} is {shapes[path]}, the configuration asks for {expected[path]}"
        for path in expected
        if path in shapes and shapes[path] != expected[path]
    ]
    if problems:
        lines = bullets(problems)
        raise CheckpointError(f"{subject}: parameters and configuration disagree:{lines}")
