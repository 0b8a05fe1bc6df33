"""Tests of counted operations against the compiler's, on programs with scans of length one."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from xcomp_jax.compression.schedule import plan_layer_groups
from xcomp_jax.config import CompressionConfig, LLMConfig, SelectionConfig, StageConfig
from xcomp_jax.engine.programs import prefill_windows, score_windows
from xcomp_jax.flops import (
    encoder_flops,
    prefill_flops,
    reading_flops,
    scoring_flops,
    training_flops,
)
from xcomp_jax.launch.bench.selection_costs import count
from xcomp_jax.models import apply
from xcomp_jax.models.xcomp import XComp, abstract_params
from xcomp_jax.selection.plan import plan_scoring
from xcomp_jax.selection.window_pass import TextQuery
from xcomp_jax.training.step import text_loss
from xcomp_jax.variants import SMOKE, XCOMP_2B

PREFIX, ROWS, FRAMES = 14, 64, 16

# Wide enough that matrix products dominate, one layer per group, one segment.
MODEL = dataclasses.replace(
    SMOKE,
    llm=LLMConfig(
        vocab_size=576,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
    ),
    projector=dataclasses.replace(SMOKE.projector, tokens_per_frame=8),
    compression=CompressionConfig(
        schedule="stepwise", keep="suffix", drop_after_layers=(1, 2), strides=(2, 2)
    ),
)
SELECTION = SelectionConfig(segment_clips=2, segment_stride=2, layers=(0, 3))


def compiled_flops(function, *arguments, **options) -> float:
    compiled = function.lower(*arguments, **options).compile()
    return compiled.cost_analysis()["flops"]


def unused(rows: int, pairs: int, *, queries: bool) -> int:
    """Counts the part of a layer used only for its output: all but keys, and values or queries."""
    llm = MODEL.llm
    size, kv_size = llm.hidden_size, llm.num_key_value_heads * llm.head_dim
    weights = size * size + 3 * size * llm.intermediate_size
    weights += size * size if queries else size * kv_size
    return 2 * rows * weights + 4 * pairs * size


def test_flops_scoring_window_equal_compiler_count() -> None:
    params, model = abstract_params(MODEL), XComp(MODEL)
    visual = FRAMES * 8
    stages = plan_layer_groups(MODEL.compression, num_layers=3, tokens_per_frame=8)
    plan = plan_scoring(
        stages, SELECTION, visual_tokens=visual, tokens_per_frame=8, prefix_length=PREFIX
    )
    assert all(group.segments and group.segments.count == 1 for group in plan.groups)
    ids = jax.ShapeDtypeStruct((PREFIX,), jnp.int32)
    tokens = jax.ShapeDtypeStruct((1, visual, 256), jnp.float32)
    watching = compiled_flops(prefill_windows, model, params, ids, tokens, plan.groups)
    want = prefill_flops(MODEL, stages, text=PREFIX, visual=visual, as_computed=True)
    # The compiler removes all of the last layer but its keys and values.
    last = PREFIX + visual // 4
    want -= unused(last, last * last, queries=True)
    assert watching == pytest.approx(want, rel=0.1)

    keys = jax.eval_shape(prefill_windows, model, params, ids, tokens, plan.groups)
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    text = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    query = TextQuery(text, scalar, scalar, scalar)
    scoring = compiled_flops(score_windows, model, params, keys, query, plan)
    want = reading_flops(
        MODEL, stages, before=PREFIX, visual=visual, rows=ROWS, as_computed=True
    ) + scoring_flops(MODEL, plan, rows=ROWS)
    want -= unused(ROWS, ROWS * (last + ROWS), queries=False)
    assert scoring == pytest.approx(want, rel=0.1)
    # Control: the scores are large enough for this check.
    assert abs(scoring_flops(MODEL, plan, rows=ROWS)) > 0.02 * want


def test_flops_encoder_near_compiler_count() -> None:
    model = XComp(MODEL)
    vision = dataclasses.replace(MODEL.vision, width=256, depth=2, mlp_ratio=4.0)
    config = dataclasses.replace(MODEL, vision=vision)
    model, params = XComp(config), abstract_params(config)
    pixels = jax.ShapeDtypeStruct((1, vision.clip_frames, 32, 32, 3), jnp.float32)
    program = jax.jit(lambda p, x: apply.encode(model, p, x))
    got = compiled_flops(program, params, pixels)
    # Token merging is not counted, but not negligible in a small model.
    assert 0.9 * encoder_flops(config) < got < 1.5 * encoder_flops(config)


@pytest.mark.parametrize("frames", [1024, 2048, 4096, 8192])
def test_flops_questions_linear_in_frames(frames: int) -> None:
    """Counts one question, the next one, and a follow-up for the 2B model."""
    costs = count(XCOMP_2B, SelectionConfig(), num_frames=frames, rows=100, turn_rows=40)
    assert costs.first <= 1.15 * costs.windows
    assert costs.second <= 0.1 * costs.first
    assert costs.follow_up < 0.03 * costs.answer
    least = count(XCOMP_2B, SelectionConfig(), num_frames=1024, rows=100, turn_rows=40)
    assert costs.first == frames // 1024 * least.first
    assert costs.encode == frames // 1024 * least.encode


def test_flops_training_equal_compiler_count() -> None:
    """Compares the gradients of one example with the compiler's count."""
    stage = StageConfig(
        name="sct",
        num_steps=1,
        learning_rate=1e-3,
        batch_size=1,
        compression=MODEL.compression,
        remat=True,
    )
    params, model = abstract_params(MODEL), XComp(MODEL)
    features = jax.ShapeDtypeStruct((1, FRAMES * 8, 256), jnp.float32)
    ids, scalar = jax.ShapeDtypeStruct((1, ROWS), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
    batch = {
        **{f"{part}_{what}": ids for part in ("prefix", "suffix") for what in ("ids", "labels")},
        **{name: scalar for name in ("num_frames", "prefix_len", "suffix_len")},
    }
    program = jax.jit(jax.grad(text_loss, argnums=(2, 3)), static_argnums=(0, 1))
    got = compiled_flops(program, model, stage, params, features, batch)

    def counted(stage: StageConfig) -> int:
        flops = training_flops(MODEL, stage, frames=FRAMES, text=2 * ROWS, encoded=True)
        return flops.model + flops.recomputed

    # The projector is not part of this program.
    only_decoder = dataclasses.replace(stage, trainable=("llm",))
    assert got == pytest.approx(counted(only_decoder), rel=0.05)
    # Controls: without recomputation, and with a frozen decoder.
    kept = dataclasses.replace(only_decoder, remat=False)
    assert got > 1.2 * counted(kept)
    frozen = dataclasses.replace(kept, trainable=("projector",))
    assert counted(frozen) < 0.75 * counted(kept)
