"""Mapping between PyTorch tensors and parameters: rules, layouts and checks before any copy."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.rules import ENCODERS, LM_HEAD, PROJECTOR, QWEN2, TIED_COPY
from xcomp_jax.convert.tensors import (
    FLOATS,
    Shape,
    Tensor,
    count_non_finite,
    equal_bits,
    float_dtype,
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Axes of a parameter: `parameter = transpose(squeeze(tensor, drop), order)`.

    Both directions return views, so a round trip is exact. `order=None` keeps the order.
    """

    drop: tuple[int, ...] = ()
    order: tuple[int, ...] | None = None

    def to_target(self, source: np.ndarray) -> np.ndarray:
        """Returns a view of a PyTorch tensor with the parameter's axes."""
        squeezed = np.squeeze(source, self.drop)
        return squeezed if self.order is None else squeezed.transpose(self.order)

    def to_source(self, target: np.ndarray) -> np.ndarray:
        """Returns a view of a parameter with the PyTorch tensor's axes."""
        if self.order is not None:
            target = target.transpose(np.argsort(self.order))
        return np.expand_dims(target, self.drop)

    def source_shape(self, target_shape: Shape) -> Shape:
        """Returns the shape of the tensor for a parameter of `target_shape`."""
        return self.to_source(np.broadcast_to(np.uint8(0), target_shape)).shape


LAYOUTS = {
    "copy": Layout(),
    # PyTorch stores [out, in]; a Flax kernel is [in, out].
    "linear": Layout(order=(1, 0)),
    # Conv3d [C, 3, 1, p, p] with a depth of one frame -> [p, p, 3, C].
    "patch": Layout(drop=(2,), order=(2, 3, 1, 0)),
    # A token [1, 1, C] and a table of positions [1, N, C].
    "token": Layout(drop=(0, 1)),
    "positions": Layout(drop=(0,)),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of `xcomp_jax.convert.rules`.

    Attributes:
        source: name of the PyTorch tensor, with `{n}` for the block number.
        target: path of the parameter.
    """

    source: str
    target: str
    layout: Layout

    @property
    def stacked(self) -> bool:
        return "{n}" in self.source

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.source).replace(r"\{n\}", r"[0-9]+"))

    def source_name(self, block: int) -> str:
        return self.source.replace("{n}", str(block))


def rules_for(model: ModelConfig) -> tuple[Rule, ...]:
    """Returns the rules of a model, in the order in which PyTorch tensors are written."""
    head = () if model.llm.tie_word_embeddings else LM_HEAD
    rows = (*QWEN2, *ENCODERS[model.vision.architecture], *PROJECTOR, *head)
    return tuple(Rule(source, target, LAYOUTS[layout]) for source, target, layout in rows)


@dataclasses.dataclass(frozen=True)
class Slot:
    """One PyTorch tensor that a model requires; `block` is None unless the rule is stacked."""

    name: str
    rule: Rule
    block: int | None
    shape: Shape


def tensor_slots(rules: Sequence[Rule], shapes: Mapping[str, Shape]) -> dict[str, Slot]:
    """Returns every PyTorch tensor by name, for a model with parameters of `shapes`.

    Raises:
        ValueError: a parameter has no rule or two, or a rule has an unknown parameter.
    """
    targets = [rule.target for rule in rules]
    if sorted(targets) != sorted(shapes):
        raise ValueError(
            f"rule table: no rule for {sorted(set(shapes) - set(targets))}, unknown targets "
            f"{sorted(set(targets) - set(shapes))}, duplicate targets "
            f"{sorted({t for t in targets if targets.count(t) > 1})}"
        )
    slots: dict[str, Slot] = {}
    for rule in rules:
        shape = shapes[rule.target]
        blocks: Iterable[int | None] = range(shape[0]) if rule.stacked else (None,)
        tensor_shape = rule.layout.source_shape(shape[1:] if rule.stacked else shape)
        for block in blocks:
            name = rule.source if block is None else rule.source_name(block)
            slots[name] = Slot(name, rule, block, tensor_shape)
    return slots


def check_names_and_shapes(
    slots: Mapping[str, Slot], rules: Sequence[Rule], tensors: Mapping[str, Tensor]
) -> list[str]:
    """Returns problems with names, shapes and dtypes; reads no values."""
    problems = []
    for name in sorted(slots.keys() - tensors.keys()):
        problems.append(f"missing: {name!r} {slots[name].shape}")
    for name, tensor in tensors.items():
        matching = [rule for rule in rules if rule.pattern.fullmatch(name)]
        if len(matching) > 1:
            targets = [rule.target for rule in matching]
            problems.append(f"matched twice: {name!r} matches the rules of {targets}")
        elif name not in slots:
            reason = "no such block in this configuration" if matching else "no rule for it"
            problems.append(f"unexpected: {name!r} {tensor.shape} in {tensor.origin}, {reason}")
        elif tensor.shape != slots[name].shape:
            problems.append(
                f"wrong shape: {name!r} is {tensor.shape}, the configuration requires "
                f"{slots[name].shape}"
            )
        if tensor.values is None:
            problems.append(
                f"wrong dtype: {name!r} is {tensor.dtype}, supported are {sorted(FLOATS)}"
            )
    return problems


def check_finite(tensors: Iterable[Tensor]) -> list[str]:
    """Reads all values; returns a problem for each tensor with infinite or NaN values."""
    problems = []
    for tensor in tensors:
        count = 0 if tensor.values is None else count_non_finite(tensor.values)
        if count:
            problems.append(f"not finite: {tensor.name!r} has {count} infinite or NaN values")
    return problems


def remove_tied_copy(
    tensors: dict[str, Tensor], model: ModelConfig
) -> tuple[dict[str, Tensor], list[str]]:
    """Removes a stored copy of a tied head; a problem is returned when it is not a copy."""
    head_name, embedding_name = TIED_COPY
    if not model.llm.tie_word_embeddings or not {head_name, embedding_name} <= tensors.keys():
        return tensors, []
    head, embedding = tensors[head_name].values, tensors[embedding_name].values
    problems = []
    if head is None or embedding is None or not equal_bits(head, embedding):
        problems.append(
            f"{head_name!r} differs from {embedding_name!r}, but the configuration ties them "
            "(tie_word_embeddings=true)"
        )
    return {name: tensor for name, tensor in tensors.items() if name != head_name}, problems


def parameter_dtype(
    tensors: Mapping[str, Tensor], dtype: str | None, declared: str | None
) -> tuple[str, list[str]]:
    """Returns the parameters' dtype and problems.

    Args:
        dtype: the user's choice; without it, tensors and configuration must agree.
        declared: `torch_dtype` of config.json.
    """
    if dtype is not None:
        return float_dtype(dtype).name, []
    stored = sorted({t.dtype for t in tensors.values() if t.values is not None})
    if not stored:
        return "float32", []
    if len(stored) > 1:
        counts = {name: sum(t.dtype == name for t in tensors.values()) for name in stored}
        return stored[0], [f"wrong dtype: mixed dtypes {counts}; choose one with --dtype"]
    if declared is not None and declared != stored[0]:
        return stored[0], [
            f"wrong dtype: config.json has torch_dtype={declared!r}, but the tensors are "
            f"{stored[0]}; choose one with --dtype"
        ]
    return stored[0], []
