"""Tests of clip scores: the definition by hand, and interpreted kernels against it."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.parity import assert_parity
from xcomp_jax.ops.clip_scores import Segments, TextRows, clip_scores, pallas_gpu, pallas_tpu
from xcomp_jax.ops.clip_scores.prepare import scores_by
from xcomp_jax.ops.clip_scores.reference import clip_scores as definition
from xcomp_jax.ops.target import Target

THETA = 10_000.0
NOWHERE = Target("none", "none")
KERNELS = pytest.mark.parametrize("module", [pallas_tpu, pallas_gpu], ids=["tpu", "gpu"])
BLOCKS = {
    pallas_tpu: pallas_tpu.BlockSizes(rows=16, keys=128),
    pallas_gpu: pallas_gpu.BlockSizes(rows=16, keys=32),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Random call; `seed` determines the values and the lengths of the text."""

    segments: Segments
    num_rows: int
    prefix: int
    kv_heads: int
    group: int
    size: int
    dtype: str
    seed: int

    def inputs(self) -> tuple[jax.Array, ...]:
        rng = np.random.default_rng(self.seed)
        visual = self.segments.num_clips * self.segments.clip_tokens + 8
        shapes = (
            (2, self.num_rows, self.kv_heads * self.group, self.size),
            (2, self.prefix, self.kv_heads, self.size),
            (2, visual, self.kv_heads, self.size),
            (2, self.num_rows, self.kv_heads, self.size),
        )
        # Large queries give weights far from uniform; otherwise all rotations would score alike.
        return tuple(
            jnp.asarray(loud * rng.normal(size=shape), self.dtype)
            for shape, loud in zip(shapes, (3, 1, 1, 1), strict=True)
        )

    @property
    def rows(self) -> TextRows:
        """Rows of two examples; the question is in the middle of the text."""
        rng = np.random.default_rng(self.seed)
        length = rng.integers(1, self.num_rows + 1, 2)
        start = rng.integers(0, length)
        stop = rng.integers(start + 1, length + 1)
        prefix = rng.integers(0, self.prefix + 1, 2)
        return TextRows(*(jnp.asarray(x, jnp.int32) for x in (prefix, start, stop, length)))


SEGMENTS = st.sampled_from(
    [
        Segments(num_clips=20, clip_tokens=6, size=8, stride=4),
        Segments(num_clips=5, clip_tokens=16, size=4, stride=1),
        Segments(num_clips=9, clip_tokens=8, size=9, stride=9),  # the whole window at once
        Segments(num_clips=3, clip_tokens=24, size=1, stride=1),
        Segments(num_clips=72, clip_tokens=8, size=72, stride=72),
    ]
)


def cases(size: int) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        segments=SEGMENTS,
        num_rows=st.integers(1, 40),
        prefix=st.sampled_from([0, 1, 5]),
        kv_heads=st.integers(1, 2),
        group=st.sampled_from([1, 6, 7]),
        size=st.just(size),
        dtype=st.sampled_from(["float32", "bfloat16"]),
        seed=st.integers(0, 99),
    )


def options(case: Case) -> dict:
    return {"segments": case.segments, "rows": case.rows, "rope_theta": THETA}


def jitted(score, *inputs: jax.Array, rows: TextRows, **static) -> jax.Array:
    return jax.jit(lambda rows, *inputs: score(*inputs, rows=rows, **static))(rows, *inputs)


def run(module, case: Case, *inputs: jax.Array, **changes) -> jax.Array:
    score = functools.partial(
        scores_by, module.sums, target=NOWHERE, blocks=BLOCKS[module], interpret=True
    )
    return jitted(score, *inputs, **{**options(case), **changes})


def check(module, case: Case) -> None:
    inputs = case.inputs()
    got = run(module, case, *inputs)
    exact = (x.astype(jnp.float32) for x in inputs)
    want = jitted(definition, *exact, **options(case))
    assert got.shape == (2, case.segments.count, case.segments.size)
    relative = 1e-5 if case.dtype == "float32" else 0.03
    np.testing.assert_allclose(got, want, atol=relative * float(want.max()))


@settings(max_examples=3)
@given(case=cases(32))
def test_gpu_scores_random_case_equal_definition(case: Case) -> None:
    check(pallas_gpu, case)


@settings(max_examples=2)
@given(case=cases(128))
def test_tpu_scores_random_case_equal_definition(case: Case) -> None:
    check(pallas_tpu, case)


FIXED = Case(Segments(12, 8, 8, 4), 21, 5, 2, 3, 128, "float32", seed=1)


def test_definition_one_head_equals_loops() -> None:
    """Compares one head and one row with loops in float64 over single keys."""
    segments, theta = Segments(num_clips=3, clip_tokens=2, size=2, stride=1), 100.0
    rng = np.random.default_rng(0)
    q, before, inside, after = (rng.normal(size=(1, n, 1, 4)) for n in (1, 2, 6, 1))

    def turn(x: np.ndarray, position: int) -> np.ndarray:
        angle = position * np.array([1.0, theta**-0.5])
        left, right = x[:2], x[2:]
        c, s = np.cos(angle), np.sin(angle)
        return np.concatenate([left * c - right * s, right * c + left * s])

    want = np.zeros((2, 2))
    for segment in range(2):
        keys = [turn(k, i) for i, k in enumerate(before[0, :, 0])]
        own = inside[0, 2 * segment : 2 * segment + 4, 0]
        keys += [turn(k, 2 + i) for i, k in enumerate(own)] + [turn(after[0, 0, 0], 6)]
        scores = np.array(keys) @ turn(q[0, 0, 0], 6) / 2
        weights = np.exp(scores) / np.exp(scores).sum()
        want[segment] = weights[2:6].reshape(2, 2).mean(axis=1)
    rows = TextRows(*(jnp.array([n]) for n in (2, 0, 1, 1)))
    arrays = (jnp.asarray(x, jnp.float32) for x in (q, before, inside, after))
    got = definition(*arrays, segments=segments, rows=rows, rope_theta=theta)
    np.testing.assert_allclose(got[0], want, atol=1e-6)


@KERNELS
def test_scores_wrong_variants_exceed_tolerance(module) -> None:
    inputs = FIXED.inputs()
    want = definition(*inputs, **options(FIXED))
    query, prefix_key, visual_key, text_key = inputs
    rows = FIXED.rows
    one_less = dataclasses.replace(rows, length=rows.length - 1)
    controls = {
        "wrong scale": definition(1.01 * query, *inputs[1:], **options(FIXED)),
        "mask off by one": definition(*inputs, **{**options(FIXED), "rows": one_less}),
        "keys not rotated": definition(*inputs, **{**options(FIXED), "rope_theta": 1e12}),
        "clips off by a token": definition(
            query, prefix_key, jnp.roll(visual_key, 1, axis=1), text_key, **options(FIXED)
        ),
    }
    got = run(module, FIXED, *inputs)
    for control in controls.values():
        assert_parity(got, want, atol=2e-6, control=control)


@KERNELS
def test_scores_without_question_row_nan(module) -> None:
    rows = FIXED.rows
    rows = dataclasses.replace(rows, question_stop=rows.question_stop.at[0].set(0))
    got = run(module, FIXED, *FIXED.inputs(), rows=rows)
    want = definition(*FIXED.inputs(), **{**options(FIXED), "rows": rows})
    assert np.isnan(got[0]).all()
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)


@KERNELS
def test_scores_keys_after_last_segment_ignored(module) -> None:
    """Of ten clips, eight make one whole segment; the last two belong to none."""
    case = dataclasses.replace(FIXED, segments=Segments(10, 8, 8, 4))
    query, prefix_key, visual_key, text_key = case.inputs()
    loud = visual_key.at[:, 64:].set(100.0)
    quiet = run(module, case, query, prefix_key, visual_key, text_key)
    np.testing.assert_array_equal(run(module, case, query, prefix_key, loud, text_key), quiet)


def test_scores_unsupported_input_refused() -> None:
    inputs = FIXED.inputs()
    with pytest.raises(ValueError, match=r"'pallas_gpu' refuses: it runs on gpu.*for cpu"):
        clip_scores(*inputs, **options(FIXED), implementation="pallas_gpu")
    with pytest.raises(ValueError, match="'triton' not found; known:"):
        clip_scores(*inputs, **options(FIXED), implementation="triton")
    with pytest.raises(ValueError, match="need 96 keys"):
        clip_scores(inputs[0], inputs[1], inputs[2][:, :95], inputs[3], **options(FIXED))
    narrow = pallas_tpu.refusal(jnp.zeros((1, 8, 2, 64)), inputs[2], FIXED.segments, NOWHERE)
    assert narrow == "head size 64 is not 128"
    odd = Segments(12, 6, 8, 1)
    assert "not a multiple of 8 tokens" in str(pallas_tpu.refusal(*inputs[:2], odd, NOWHERE))
