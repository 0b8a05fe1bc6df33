"""Rule table and layouts, compared with the model and the published parameter counts."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import CompressionConfig, ModelConfig, VisionConfig
from xcomp_jax.convert.map import (
    LAYOUTS,
    Rule,
    check_names_and_shapes,
    rules_for,
    tensor_slots,
)
from xcomp_jax.convert.tensors import Tensor
from xcomp_jax.convert.variants import VARIANTS, match_variant, variant_table

BY_NAME = {variant.name: variant for variant in VARIANTS}

# (tensors, parameters) as counted in the PyTorch release.
TOTALS = {
    "XComp-2B_res448": (645, 1_838_128_640),
    "VideoChat-Flash-Qwen2_5-2B_res448": (645, 1_838_128_640),
    "VideoChat-Flash-Qwen2-7B_res448": (646, 7_922_617_856),
    "VideoChat-Flash-Qwen2-7B_res224": (646, 7_922_617_856),
    "VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B": (855, 8_620_852_736),
}


@pytest.mark.parametrize("name", TOTALS)
def test_variant_has_published_totals(name: str) -> None:
    variant = BY_NAME[name]
    assert (len(variant.tensors()), variant.num_parameters()) == TOTALS[name]


def test_variant_table_lists_totals() -> None:
    text = variant_table()
    for name, (tensors, parameters) in TOTALS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
        assert f" {tensors} " in line
        assert line.endswith(f" {parameters:,}")


@pytest.mark.parametrize("name", TOTALS)
def test_rules_match_tensors_and_parameters_once(name: str) -> None:
    variant = BY_NAME[name]
    slots = tensor_slots(variant.rules(), variant.shapes())
    for tensor in slots:
        assert sum(bool(rule.pattern.fullmatch(tensor)) for rule in variant.rules()) == 1
    places = Counter((slot.rule.target, slot.block) for slot in slots.values())
    assert set(places.values()) == {1}
    for slot in slots.values():
        shape = variant.shapes()[slot.rule.target]
        part = np.broadcast_to(np.int8(0), shape if slot.block is None else shape[1:])
        assert slot.rule.layout.to_source(part).shape == slot.shape


def test_missing_or_duplicate_target_is_rejected() -> None:
    model = ModelConfig()
    rules = rules_for(model)
    with pytest.raises(ValueError, match=r"no rule for \['llm/norm/scale'\]"):
        tensor_slots([r for r in rules if r.target != "llm/norm/scale"], param_shapes(model))
    duplicate = dataclasses.replace(rules[0], target="llm/norm/scale")
    with pytest.raises(ValueError, match=r"duplicate targets \['llm/norm/scale'\]"):
        tensor_slots([*rules[1:], duplicate], param_shapes(model))


def test_tensor_with_two_rules_is_listed() -> None:
    model = ModelConfig()
    name = "model.layers.{n}.input_layernorm.weight"
    rules = [*rules_for(model), Rule(name, "llm/norm/scale", LAYOUTS["copy"])]
    slots = tensor_slots(rules_for(model), param_shapes(model))
    tensor = Tensor("model.layers.3.input_layernorm.weight", "float32", (1536,), None, "x")
    problems = check_names_and_shapes(slots, rules, {tensor.name: tensor})
    (problem,) = [problem for problem in problems if "matched twice" in problem]
    assert "llm/layers/input_layernorm/scale" in problem
    assert "llm/norm/scale" in problem


def test_dot_in_rule_matches_only_a_dot() -> None:
    rule = next(r for r in rules_for(ModelConfig()) if r.source.endswith("attn.q_bias"))
    assert rule.pattern.fullmatch("model.vision_tower.vision_tower.encoder.blocks.7.attn.q_bias")
    assert not rule.pattern.fullmatch(
        "model.vision_tower.vision_tower.encoder.blocks.7.attnxq_bias"
    )
    assert not rule.pattern.fullmatch("model.vision_tower.vision_tower.encoder.blocks..attn.q_bias")


@pytest.mark.parametrize(
    ("layout", "shape", "target"),
    [
        ("copy", (3, 5), (3, 5)),
        ("linear", (3, 5), (5, 3)),
        ("patch", (7, 3, 1, 4, 5), (4, 5, 3, 7)),
        ("token", (1, 1, 6), (6,)),
        ("positions", (1, 5, 6), (5, 6)),
    ],
)
def test_layout_round_trips(layout: str, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    tensor = np.arange(np.prod(shape)).reshape(shape)
    parameter = LAYOUTS[layout].to_target(tensor)
    assert parameter.shape == target
    assert LAYOUTS[layout].source_shape(target) == shape
    np.testing.assert_array_equal(LAYOUTS[layout].to_source(parameter), tensor)


def test_patch_layout_moves_channels_last() -> None:
    tensor = np.arange(7 * 3 * 4 * 5).reshape(7, 3, 1, 4, 5)
    assert LAYOUTS["patch"].to_target(tensor)[2, 4, 1, 6] == tensor[6, 1, 0, 2, 4]


def test_match_variant_ignores_clip_length() -> None:
    xcomp = ModelConfig(vision=VisionConfig(clip_frames=8))
    assert match_variant(xcomp).name == "XComp-2B_res448"
    base = dataclasses.replace(xcomp, compression=CompressionConfig(schedule="none"))
    assert match_variant(base).name == "VideoChat-Flash-Qwen2_5-2B_res448"
    assert match_variant(ModelConfig(vision=VisionConfig(width=512))) is None
