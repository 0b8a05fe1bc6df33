"""The rule table against the model, the published totals and a layout worked out by hand."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from xcomp_jax.convert.layouts import COPY, LINEAR, PATCH, Layout

from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import CompressionConfig, ModelConfig, VisionConfig
from xcomp_jax.convert import plan
from xcomp_jax.convert.rules import QWEN2, UMT, rules_for
from xcomp_jax.convert.variants import VARIANTS, match_variant, table

BY_NAME = {variant.name: variant for variant in VARIANTS}

# (tensors, parameters) as counted in the original.
TOTALS = {
    "XComp-2B_res448": (645, 1_838_128_640),
    "VideoChat-Flash-Qwen2_5-2B_res448": (645, 1_838_128_640),
    "VideoChat-Flash-Qwen2-7B_res448": (646, 7_922_617_856),
    "VideoChat-Flash-Qwen2-7B_res224": (646, 7_922_617_856),
    "VideoChat-Flash-Qwen2_5-7B_InternVideo2-1B": (855, 8_620_852_736),
}


@pytest.mark.parametrize("name", TOTALS)
def test_totals_of_the_published_models(name: str) -> None:
    variant = BY_NAME[name]
    assert (len(variant.tensors()), variant.num_parameters()) == TOTALS[name]


def test_the_table_lists_every_model_with_its_total() -> None:
    text = table()
    for name, (tensors, parameters) in TOTALS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
        assert f" {tensors} " in line
        assert line.endswith(f" {parameters:,}")


@pytest.mark.parametrize("name", TOTALS)
def test_every_tensor_has_one_rule_and_every_array_one_source(name: str) -> None:
    variant = BY_NAME[name]
    slots = plan.slots(variant.rules(), variant.shapes())
    for tensor in slots:
        assert sum(bool(rule.pattern.fullmatch(tensor)) for rule in variant.rules()) == 1
    places = Counter((slot.rule.target, slot.block) for slot in slots.values())
    assert set(places.values()) == {1}
    for slot in slots.values():  # and back: the array's part has the shape it came from
        shape = variant.shapes()[slot.rule.target]
        part = np.broadcast_to(np.int8(0), shape if slot.block is None else shape[1:])
        assert slot.rule.layout.to_source(part).shape == slot.shape


def test_a_table_that_misses_or_repeats_a_target_is_noticed() -> None:
    model = ModelConfig()
    rules = rules_for(model)
    with pytest.raises(ValueError, match=r"without a rule \['llm/norm/scale'\]"):
        plan.slots([r for r in rules if r.target != "llm/norm/scale"], param_shapes(model))
    again = dataclasses.replace(rules[0], target="llm/norm/scale")
    with pytest.raises(ValueError, match=r"written twice \['llm/norm/scale'\]"):
        plan.slots([*rules[1:], again], param_shapes(model))


def test_a_tensor_that_two_rules_match_is_a_problem() -> None:
    model = ModelConfig()
    greedy = dataclasses.replace(QWEN2[-1], source="model.layers.{n}.input_layernorm.weight")
    rules = [*rules_for(model), greedy]
    slots = plan.slots(rules_for(model), param_shapes(model))
    tensor = plan.Tensor("model.layers.3.input_layernorm.weight", "float32", (1536,), None, "x")
    (problem,) = [
        p
        for p in plan.check_names_and_shapes(slots, rules, {tensor.name: tensor})
        if "matched twice" in p
    ]
    assert "llm/layers/input_layernorm/scale" in problem
    assert "llm/norm/scale" in problem


def test_dots_in_names_are_not_wildcards() -> None:
    rule = next(rule for rule in UMT if rule.source.endswith("attn.q_bias"))
    assert rule.pattern.fullmatch("model.vision_tower.vision_tower.encoder.blocks.7.attn.q_bias")
    assert not rule.pattern.fullmatch(
        "model.vision_tower.vision_tower.encoder.blocks.7.attnxq_bias"
    )
    assert not rule.pattern.fullmatch("model.vision_tower.vision_tower.encoder.blocks..attn.q_bias")


@pytest.mark.parametrize(
    ("layout", "shape", "target"),
    [
        (COPY, (3, 5), (3, 5)),
        (LINEAR, (3, 5), (5, 3)),
        (PATCH, (7, 3, 1, 4, 5), (4, 5, 3, 7)),
        (Layout(drop=(0, 1)), (1, 1, 6), (6,)),
    ],
)
def test_layouts(layout: Layout, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    source = np.arange(np.prod(shape)).reshape(shape)
    ours = layout.to_target(source)
    assert ours.shape == target
    assert layout.source_shape(target) == shape
    np.testing.assert_array_equal(layout.to_source(ours), source)


def test_patch_layout_by_hand() -> None:
    source = np.arange(7 * 3 * 4 * 5).reshape(7, 3, 1, 4, 5)
    assert PATCH.to_target(source)[2, 4, 1, 6] == source[6, 1, 0, 2, 4]


def test_a_model_is_recognised_by_everything_but_its_clip_length() -> None:
    xcomp = ModelConfig(vision=VisionConfig(clip_frames=8))
    assert match_variant(xcomp).name == "XComp-2B_res448"
    base = dataclasses.replace(xcomp, compression=CompressionConfig(schedule="none"))
    assert match_variant(base).name == "VideoChat-Flash-Qwen2_5-2B_res448"
    assert match_variant(ModelConfig(vision=VisionConfig(width=512))) is None
