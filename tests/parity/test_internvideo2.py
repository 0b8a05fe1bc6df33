"""Parity of `internvideo2`: the encoder of a 7B base model, loaded by the converter."""

from __future__ import annotations

import functools
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.parity.cases import Case, assert_parity
from tests.parity.recorded_clips import clips_of, shifted_order
from xcomp_jax.checkpoint import param_shapes
from xcomp_jax.config import LLMConfig, ModelConfig, ProjectorConfig, VisionConfig
from xcomp_jax.convert.fill import fill_tree, plan_leaves
from xcomp_jax.convert.map import rules_for, tensor_slots
from xcomp_jax.convert.tensors import Tensor
from xcomp_jax.models.internvideo2 import position_table
from xcomp_jax.models.xcomp import Params, XComp

# See tests.parity.lm_run: twice the sum of both programs' distances from the exact result.
NOISE_FACTOR = 4

# The recording has only the encoder; the smallest language model completes the checkpoint.
LLM = LLMConfig(
    vocab_size=8,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
)


def vision_config(case: Case) -> VisionConfig:
    config = case.json("config.json")
    numerator, denominator = re.match(r"(\d+)/(\d+)", config["mlp_ratio"]).groups()
    assert (config["qkv_bias"], config["qk_normalization"]) == (False, True), "all that is built"
    return VisionConfig(
        architecture=config["mm_vision_tower"],
        image_size=config["image_size"],
        patch_size=config["patch_size"],
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        select_layer=config["mm_vision_select_layer"],
        num_heads=config["num_attention_heads"],
        mlp_ratio=int(numerator) / int(denominator),
        clip_frames=config["mm_local_num_frames"],
    )


@functools.lru_cache(maxsize=4)
def converted(case: Case) -> tuple[XComp, Params]:
    """Converts the recorded tensors, with zeros for the rest of the model."""
    model = ModelConfig(
        vision=vision_config(case),
        projector=ProjectorConfig(tokens_per_frame=1),
        llm=LLM,
        dtype="float32",
    )
    stored = load_file(case.dir / "model.safetensors")
    tower = {f"model.vision_tower.{name}": array for name, array in stored.items()}
    rest = {
        name: np.zeros(slot.shape, np.float32)
        for name, slot in tensor_slots(rules_for(model), param_shapes(model)).items()
        if not slot.rule.target.startswith("vision/")
    }
    tensors = {name: Tensor.from_array(name, a, case.name) for name, a in (tower | rest).items()}
    model, leaves = plan_leaves(case.dir, tensors, model, dtype="float32", declared=None)
    return XComp(model), fill_tree(case.dir, leaves, None, progress=False)


@pytest.mark.golden("internvideo2")
def test_internvideo2_recorded_clips_equal_features(case) -> None:
    model, params = converted(case)
    assert model.config.vision.num_blocks == case.meta["n_blocks"]
    encode = jax.jit(lambda p, x: model.apply({"params": p}, x, method="vision_features"))
    for run, pixels in clips_of(case):
        image = pixels.shape[1] == 1
        noise = case.meta["image_max_abs_diff_vs_float64" if image else "max_abs_diff_vs_float64"]
        assert_parity(
            encode(params, pixels),
            case.io[f"{run}__features"],
            atol=NOISE_FACTOR * noise,
            control=encode(params, shifted_order(pixels)),
        )


@pytest.mark.golden("internvideo2")
def test_internvideo2_fresh_model_equal_positions(case) -> None:
    vision = vision_config(case)
    for name, want in case.io.matching(r"fresh_(img_)?pos_embed").items():
        frames = 1 if name == "fresh_img_pos_embed" else vision.clip_frames
        got = position_table(frames, vision.grid, vision.width)
        # Control: rows and columns exchanged.
        swapped = got[1:].reshape(frames, vision.grid, vision.grid, -1).swapaxes(1, 2)
        control = np.concatenate([got[:1], swapped.reshape(got[1:].shape)])
        assert_parity(got, want, atol=2e-6, control=control)
