"""Named tensors of the original into our parameter tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.experimental import multihost_utils
from tqdm import tqdm

from xcomp_jax.checkpoint import LazyArray, param_shapes
from xcomp_jax.config import ModelConfig
from xcomp_jax.convert import plan
from xcomp_jax.convert.dtypes import compute_dtype, float_dtype
from xcomp_jax.convert.errors import refuse
from xcomp_jax.convert.fill import Leaf
from xcomp_jax.convert.rules import TIED_COPY, rules_for
from xcomp_jax.convert.safetensors_read import Tensor

Shardings = jax.sharding.Sharding | Mapping[str, Any]


def plan_leaves(
    subject: object,
    tensors: dict[str, Tensor],
    model: ModelConfig,
    *,
    dtype: str | None,
    declared: str | None,
) -> tuple[ModelConfig, list[Leaf]]:
    """Decides what every array of ours is filled with; no value is read unless something is wrong.

    Args:
        subject: heads the messages.
        tensors: by the original's names.
        model: configuration; its dtype is replaced by what suits the stored dtype.
        dtype: of our arrays; default what the tensors have.
        declared: dtype the original's configuration claims, if it does.

    Raises:
        ConversionError: listing every missing, unexpected, ambiguous, ill-shaped, ill-typed or
            non-finite tensor.
    """
    rules, shapes = rules_for(model), param_shapes(model)
    slots = plan.slots(rules, shapes)
    tensors, problems = _without_tied_copy(tensors, model)
    problems += plan.check_names_and_shapes(slots, rules, tensors)
    stored, dtype_problems = _choose_dtype(tensors, dtype, declared)
    problems += dtype_problems
    if problems:
        # Nothing will be filled, so the values are read here: one refusal lists everything.
        refuse(subject, problems + plan.check_finite(tensors.values()))
    leaves = []
    for rule in rules:
        shape = shapes[rule.target]
        blocks = range(shape[0]) if rule.stacked else range(1)
        sources = [tensors[rule.source_name(block)] for block in blocks]
        leaves.append(Leaf(rule, shape, float_dtype(stored), sources))
    return dataclasses.replace(model, dtype=compute_dtype(stored)), leaves


def fill_tree(
    subject: object, leaves: Sequence[Leaf], shardings: Shardings | None, *, progress: bool
) -> dict[str, Any]:
    """Reads all arrays into host memory (None) or onto devices.

    Raises:
        ConversionError: listing every tensor whose values are not finite.
    """
    if isinstance(shardings, Mapping):
        by_path = traverse_util.flatten_dict(shardings, sep="/")
    else:
        by_path = {leaf.rule.target: shardings for leaf in leaves}
    flat = {}
    for leaf in tqdm(leaves, desc="reading", unit="array", disable=not progress):
        path = leaf.rule.target
        if by_path[path] is None:
            flat[path] = leaf.whole()
        else:
            flat[path] = jax.make_array_from_callback(leaf.shape, by_path[path], leaf.part)
    problems = [problem for leaf in leaves for problem in leaf.problems]
    elsewhere = _problems_elsewhere(len(problems))
    refuse(subject, problems or elsewhere)
    return traverse_util.unflatten_dict(flat, sep="/")


def _problems_elsewhere(own: int) -> list[str]:
    """What other processes found in their slices: all must stop, or the rest waits for ever."""
    if jax.process_count() == 1:
        return []
    counts = multihost_utils.process_allgather(np.int32(own))
    return [
        f"process {process} found {count} problem(s), see its output"
        for process, count in enumerate(counts)
        if count
    ]


def lazy_tree(leaves: Sequence[Leaf], bar: tqdm[Any]) -> dict[str, Any]:
    """The same arrays, read while they are written; `Leaf.problems` is complete after that."""

    def read(leaf: Leaf, rows: slice) -> Any:
        values = leaf.part((rows, *(slice(0, size) for size in leaf.shape[1:])))
        bar.update(values.nbytes)
        return values

    def lazy(leaf: Leaf) -> LazyArray:
        return LazyArray(leaf.shape, leaf.dtype, lambda rows: read(leaf, rows))

    return traverse_util.unflatten_dict({leaf.rule.target: lazy(leaf) for leaf in leaves}, sep="/")


def _without_tied_copy(
    tensors: dict[str, Tensor], model: ModelConfig
) -> tuple[dict[str, Tensor], list[str]]:
    """Drops a tied head that was saved all the same, after checking that it is only a copy."""
    name, original = TIED_COPY
    if not model.llm.tie_word_embeddings or name not in tensors or original not in tensors:
        return tensors, []
    head, embedding = tensors[name].values, tensors[original].values
    problems = []
    if head is None or embedding is None or not plan.equal_bits(head, embedding):
        problems.append(
            f"{name!r} differs from {original!r}, but the configuration ties them "
            "(tie_word_embeddings true)"
        )
    return {key: tensor for key, tensor in tensors.items() if key != name}, problems


def _choose_dtype(
    tensors: Mapping[str, Tensor], dtype: str | None, declared: str | None
) -> tuple[str, list[str]]:
    """The dtype our arrays get; without a choice, tensors and configuration must agree on it."""
    if dtype is not None:
        return float_dtype(dtype).name, []
    found = sorted({t.dtype for t in tensors.values() if t.values is not None})
    if len(found) > 1:
        counts = {name: sum(t.dtype == name for t in tensors.values()) for name in found}
        return found[0], [f"wrong dtype: tensors of {counts} together; choose one with --dtype"]
    stored = found[0] if found else "float32"
    if declared is not None and found and declared != stored:
        return stored, [
            f"wrong dtype: the configuration says torch_dtype={declared!r}, the tensors are "
            f"{stored}; choose with --dtype"
        ]
    return stored, []
