"""Parity of `param_manifest`: tensor names and shapes of the original at full size, exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest

from xcomp_jax.convert.variants import VARIANTS, Variant

Shapes = dict[str, tuple[int, ...]]


def manifests(case) -> dict[str, dict[str, Any]]:
    found = {name: content for name, content in case.jsons().items() if "tensors" in content}
    assert found, f"{case.dir} holds no manifest"
    return found


def recorded_shapes(manifest: dict[str, Any]) -> Shapes:
    return {name: tuple(shape) for name, shape in manifest["tensors"].items()}


def variants_of(shapes: Shapes) -> list[Variant]:
    return [variant for variant in VARIANTS if variant.tensors() == shapes]


@pytest.mark.golden("param_manifest")
def test_manifest_every_tensor_mapped_once(case) -> None:
    for name, manifest in manifests(case).items():
        shapes = recorded_shapes(manifest)
        matching = variants_of(shapes)
        assert matching, f"{name}: no known model has exactly these {len(shapes)} tensors"
        for variant in matching:
            total = variant.num_parameters()
            print(f"{name}: {variant.name}, {len(shapes)} tensors, {total:,} parameters")
            assert total == manifest["n_parameters"] == sum(map(math.prod, shapes.values()))
            tied = variant.model.llm.tie_word_embeddings
            assert manifest["tied_and_not_saved"] == (["lm_head.weight"] if tied else [])


@pytest.mark.golden("param_manifest")
def test_manifest_wrong_name_or_shape_unmatched(case) -> None:
    """Checks the control of the test above."""
    for manifest in manifests(case).values():
        shapes = recorded_shapes(manifest)
        name, shape = next(iter(shapes.items()))
        others = {other: s for other, s in shapes.items() if other != name}
        assert not variants_of(others | {name + "s": shape})
        assert not variants_of(others | {name: shape[::-1]})
        assert not variants_of(others)
