"""Parity of `vision` and `projector`: from pixels to visual tokens."""

from __future__ import annotations

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.cases import Case, assert_parity
from tests.parity.recorded_clips import clips_of, shifted_order
from tests.parity.recorded_model import recorded_model
from xcomp_jax.config import VisionConfig
from xcomp_jax.models import apply
from xcomp_jax.models.layer_norm import moments
from xcomp_jax.models.position_tables import image_position_table, video_position_table
from xcomp_jax.models.tome import merge_tokens
from xcomp_jax.models.umt import Block, PatchEmbed, UMTEncoder
from xcomp_jax.models.xcomp import Params

ATOL = 2e-5
FLOAT32 = jnp.dtype("float32")

merged_tokens = jax.jit(merge_tokens, static_argnums=(1, 2))


@functools.partial(jax.jit, static_argnames="config")
def patches_of(config: VisionConfig, params: Params, pixels: jax.Array) -> jax.Array:
    return PatchEmbed(config, FLOAT32).apply({"params": params}, pixels)


@functools.partial(jax.jit, static_argnames="config")
def through_block(config: VisionConfig, params: Params, x: jax.Array) -> jax.Array:
    return Block(config, FLOAT32).apply({"params": params}, x, moments(x))[0]


def vision_config(case: Case, frames: int) -> tuple[VisionConfig, dict]:
    model, params = recorded_model(case)
    return dataclasses.replace(model.config.vision, clip_frames=frames), params


@pytest.mark.golden("vision")
def test_umt_recorded_clips_equal_features(case) -> None:
    for run, pixels in clips_of(case):
        config, params = vision_config(case, pixels.shape[1])
        encode = jax.jit(lambda p, x, c=config: UMTEncoder(c, FLOAT32).apply({"params": p}, x))
        got = encode(params["vision"], pixels)
        control = encode(params["vision"], shifted_order(pixels))
        assert_parity(got, case.io[f"{run}__features"], atol=ATOL, control=control)


@pytest.mark.golden("vision")
def test_umt_recorded_first_layers_equal(case) -> None:
    for run, pixels in clips_of(case):
        if f"{run}__patch_embed" not in case.io:
            continue
        config, params = vision_config(case, pixels.shape[1])
        vision = params["vision"]
        patches, swapped = (
            patches_of(config, vision["patch_embed"], some) for some in (pixels, pixels[..., ::-1])
        )
        assert_parity(patches, case.io[f"{run}__patch_embed"], atol=ATOL, control=swapped)
        frames = pixels.shape[1]
        positions = (
            image_position_table(config.grid, config.width)
            if frames == 1
            else video_position_table(frames, config.grid, config.width)
        )
        x = patches + positions[None]
        for name, want in case.io.optional(rf"{run}__block\d+_out").items():
            number = int(re.search(r"block(\d+)_out", name).group(1))
            out = x
            for layer in range(number + 1):
                block = jax.tree.map(lambda leaf, i=layer: leaf[i], vision["blocks"])
                before, out = out, through_block(config, block, out)
            assert_parity(out, want, atol=ATOL, control=before)


@pytest.mark.golden("vision")
def test_umt_recorded_positions_equal(case) -> None:
    for run, pixels in clips_of(case):
        config, _ = vision_config(case, pixels.shape[1])
        frames, grid = pixels.shape[1], config.grid
        for kind in ("pos_embed", "img_pos_embed"):
            if f"{run}__{kind}" in case.io:
                image = kind == "img_pos_embed"
                table = (
                    image_position_table(grid, config.width)
                    if image
                    else video_position_table(frames, grid, config.width)
                )
                want = case.io[f"{run}__{kind}"]
                control = np.roll(table, 1, axis=0)
                assert_parity(table, want, atol=2e-6, control=control)
    for name, want in case.io.optional(r"(img_)?pos_table_.+").items():
        sizes = dict(re.findall(r"(img|frames|c)(\d+)", name.replace("img_pos", "")))
        model, _ = recorded_model(case)
        grid = int(sizes["img"]) // model.config.vision.patch_size
        width = int(sizes["c"])
        table = (
            image_position_table(grid, width)
            if name.startswith("img_")
            else video_position_table(int(sizes["frames"]), grid, width)
        )
        # Only every n-th row was stored; n follows from the number of rows.
        step = next(n for n in range(1, len(table) + 1) if len(table[::n]) == len(want))
        control = np.roll(table, 1, axis=0)[::step]
        assert_parity(table[::step], want, atol=2e-6, control=control)


@pytest.mark.golden("projector")
def test_projector_recorded_features_equal(case) -> None:
    for name, features in case.io.matching(r".+__features").items():
        run = name.removesuffix("__features")
        model, params = recorded_model(case)
        frames = features.shape[1] // model.config.vision.patches_per_frame
        per_clip = frames * model.config.projector.tokens_per_frame
        project = jax.jit(lambda p, f, m=model: apply.project(m, p, f))
        # Control: neighbouring tokens exchanged before merging.
        control = project(params, np.roll(features, 1, axis=1))
        assert_parity(
            project(params, features), case.io[f"{run}__llm_embeds"], atol=ATOL, control=control
        )
        if f"{run}__tome_out" in case.io:
            heads = model.config.vision.num_heads
            merged, _ = merged_tokens(features, per_clip, heads)
            rolled, _ = merged_tokens(np.roll(features, 1, axis=1), per_clip, heads)
            assert_parity(merged, case.io[f"{run}__tome_out"], atol=ATOL, control=rolled)
