"""Tests of attention kernels in the interpreter against the definition in float32."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from tests.ops.parity import assert_parity
from xcomp_jax.ops.attention import pair_kernel, pallas_gpu, pallas_tpu, reference, xla
from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.target import Target

NOWHERE = Target("none", "none")
GPU_BLOCKS = pallas_gpu.BlockSizes(
    forward_queries=16, forward_keys=32, backward_queries=32, backward_keys=16
)
TPU_BLOCKS = pallas_tpu.BlockSizes(
    forward_queries=256,
    forward_keys=256,
    forward_compute=128,
    dkv_queries=128,
    dkv_keys=256,
    dkv_compute=128,
    dq_queries=256,
    dq_keys=128,
)


@dataclasses.dataclass(frozen=True)
class Case:
    """Random call; `seed` determines the values and the masked keys."""

    rows: int
    before: int
    kv_heads: int
    group: int
    size: int
    dtype: str
    causal: bool
    masked: bool
    seed: int

    def inputs(self) -> tuple[jax.Array, ...]:
        rng = np.random.default_rng(self.seed)
        keys = self.rows + self.before
        shapes = [(2, self.rows, self.kv_heads * self.group, self.size)]
        shapes += [(2, keys, self.kv_heads, self.size)] * 2
        return tuple(jnp.asarray(rng.normal(size=shape), self.dtype) for shape in shapes)

    @property
    def mask(self) -> jax.Array | None:
        """Mask with holes, as three padded parts leave them; the first key is visible."""
        if not self.masked:
            return None
        seen = np.random.default_rng(self.seed).random((2, self.rows + self.before)) < 0.7
        seen[:, 0] = True
        return jnp.asarray(seen)

    @property
    def offset(self) -> int:
        return self.before if self.causal else 0


def cases(sizes: list[int], rows: int) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        rows=st.integers(1, rows),
        before=st.sampled_from([0, 0, 1, 33]),
        kv_heads=st.integers(1, 2),
        group=st.sampled_from([1, 6, 7]),
        size=st.sampled_from(sizes),
        dtype=st.sampled_from(["float32", "bfloat16"]),
        causal=st.booleans(),
        masked=st.booleans(),
        seed=st.integers(0, 99),
    )


def run(module, case: Case, query, key, value, *, return_lse: bool, mask: str = "drawn"):
    key_mask = case.mask
    if mask == "one off" and key_mask is not None:
        key_mask = jnp.roll(key_mask, 1, axis=1)
    problem = Problem.of(query, key, value, case.causal, key_mask, case.offset, return_lse)
    blocks = GPU_BLOCKS if module is pallas_gpu else TPU_BLOCKS
    attend = functools.partial(
        module.attention, problem, target=NOWHERE, blocks=blocks, interpret=True
    )
    return jax.jit(attend)(query, key, value, key_mask)


def expected(case: Case, query, key, value):
    return reference.attention(
        query, key, value, causal=case.causal, key_mask=case.mask, query_offset=case.offset
    )


def check_values(module, case: Case) -> None:
    inputs = case.inputs()
    out, lse = run(module, case, *inputs, return_lse=True)
    want, want_lse = expected(case, *inputs)
    # bfloat16: 8 bits of the output, of the scaled query and of the weights.
    atol = 1e-5 if case.dtype == "float32" else 0.03
    assert out.dtype == case.dtype
    assert lse.dtype == jnp.float32
    np.testing.assert_allclose(out.astype(jnp.float32), want, atol=atol)
    np.testing.assert_allclose(lse, want_lse, atol=atol)


def check_gradients(module, case: Case) -> None:
    inputs = case.inputs()
    pull = jnp.asarray(np.random.default_rng(1).normal(size=inputs[0].shape), jnp.float32)

    def loss(attend, *inputs):
        return jnp.sum(attend(*inputs)[0].astype(jnp.float32) * pull)

    kernel = functools.partial(run, module, case, return_lse=False)
    got = jax.grad(functools.partial(loss, kernel), (0, 1, 2))(*inputs)
    exact = tuple(x.astype(jnp.float32) for x in inputs)
    want = jax.grad(functools.partial(loss, functools.partial(expected, case)), (0, 1, 2))(*exact)
    for a, b in zip(got, want, strict=True):
        # Sums over rows and over the heads of a group: relative to the largest entry.
        scale = float(jnp.abs(b).max()) + 1.0
        atol = (1e-5 if case.dtype == "float32" else 0.02) * scale
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=atol)


@settings(max_examples=3)
@given(case=cases([16, 32], 70))
def test_gpu_kernel_random_case_equals_definition(case: Case) -> None:
    check_values(pallas_gpu, case)


@settings(max_examples=2)
@given(case=cases([16, 32], 70))
def test_gpu_gradients_random_case_equal_definition(case: Case) -> None:
    check_gradients(pallas_gpu, case)


@settings(max_examples=2)
@given(case=cases([64, 128], 300))
def test_tpu_kernel_random_case_equals_definition(case: Case) -> None:
    check_values(pallas_tpu, case)


@settings(max_examples=2)
@given(case=cases([64, 128], 300))
def test_tpu_gradients_random_case_equal_definition(case: Case) -> None:
    check_gradients(pallas_tpu, case)


@settings(max_examples=3)
@given(case=cases([8], 70))
def test_xla_blocks_random_case_equals_definition(case: Case) -> None:
    inputs = case.inputs()
    out, lse = jax.jit(
        lambda *inputs: xla.attention(
            *inputs,
            causal=case.causal,
            key_mask=case.mask,
            query_offset=case.offset,
            query_block=16,
        )
    )(*inputs)
    want, want_lse = expected(case, *inputs)
    atol = 1e-5 if case.dtype == "float32" else 0.03
    np.testing.assert_allclose(out.astype(jnp.float32), want, atol=atol)
    np.testing.assert_allclose(lse, want_lse, atol=atol)


RAGGED = Case(45, 20, 2, 3, 64, "float32", causal=True, masked=True, seed=0)
KERNELS = pytest.mark.parametrize("module", [pallas_tpu, pallas_gpu], ids=["tpu", "gpu"])


@KERNELS
def test_kernel_wrong_variants_exceed_tolerance(module) -> None:
    query, key, value = RAGGED.inputs()
    out, lse = run(module, RAGGED, query, key, value, return_lse=True)
    want, want_lse = expected(RAGGED, query, key, value)
    louder = run(module, RAGGED, 1.01 * query, key, value, return_lse=True)
    shifted = run(module, RAGGED, query, key, value, return_lse=True, mask="one off")
    earlier = dataclasses.replace(RAGGED, causal=False)
    later = run(module, earlier, query, key, value, return_lse=True)
    for control in (louder, shifted, later):
        assert_parity(out, want, atol=1e-5, control=control[0])
        assert_parity(lse, want_lse, atol=1e-5, control=control[1])


@KERNELS
def test_kernel_fully_masked_rows_stay_finite(module) -> None:
    """With padding as first keys, the first rows of a causal sequence see no key."""
    case = dataclasses.replace(RAGGED, before=0)
    inputs = case.inputs()
    mask = jnp.arange(case.rows)[None, :] >= jnp.array([[3], [40]])
    problem = Problem.of(*inputs, True, mask, 0, False)
    blocks = GPU_BLOCKS if module is pallas_gpu else TPU_BLOCKS

    def attend(*inputs):
        return module.attention(
            problem, *inputs, mask, target=NOWHERE, blocks=blocks, interpret=True
        )[0]

    def total(attend, *inputs):
        return jnp.sum(jnp.where(mask[:, :, None, None], attend(*inputs), 0.0) ** 2)

    def define(*inputs):
        return jnp.nan_to_num(reference.attention(*inputs, causal=True, key_mask=mask)[0])

    out = attend(*inputs)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(
        jnp.where(mask[:, :, None, None], out, 0), define(*inputs), atol=1e-5
    )
    got = jax.grad(functools.partial(total, attend), (1, 2))(*inputs)
    assert all(np.isfinite(x).all() for x in got)
    assert all((np.asarray(x)[~np.asarray(mask)] == 0).all() for x in got), "padding got a gradient"


def test_gpu_log_sum_exp_gradient_equals_definition() -> None:
    inputs = RAGGED.inputs()

    def loss(attend, *inputs):
        out, lse = attend(*inputs)
        return jnp.sum(out**2) + jnp.sum(jnp.sin(lse))

    kernel = functools.partial(run, pallas_gpu, RAGGED, return_lse=True)
    got = jax.grad(functools.partial(loss, kernel), (0, 1, 2))(*inputs)
    want = jax.grad(functools.partial(loss, functools.partial(expected, RAGGED)), (0, 1, 2))(
        *inputs
    )
    without = jax.grad(lambda *x: jnp.sum(expected(RAGGED, *x)[0] ** 2), (0, 1, 2))(*inputs)
    for a, b, c in list(zip(got, want, without, strict=True))[:2]:  # no value in a log-sum-exp
        assert_parity(a, b, atol=2e-5, control=c)


def test_gpu_two_key_sets_merge_by_log_sum_exp() -> None:
    """Merges attention to a cached prefix and to new keys, as cached attention does."""
    case = dataclasses.replace(RAGGED, causal=False, masked=False)
    query, key, value = case.inputs()
    split = 24

    def part(keys: slice):
        out, lse = run(pallas_gpu, case, query, key[:, keys], value[:, keys], return_lse=True)
        return out, lse

    (first, a), (second, b) = part(slice(None, split)), part(slice(split, None))
    share = jax.nn.sigmoid(a - b)[..., None]
    whole = expected(case, query, key, value)[0]
    merged = share * first + (1 - share) * second
    assert_parity(merged, whole, atol=1e-5, control=(first + second) / 2)


def test_tpu_large_block_tables_split_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = []
    whole = pallas_tpu._attend

    def recorded(problem: Problem, *arrays, **options):
        parts.append((problem.rows, problem.keys, problem.query_offset))
        return whole(problem, *arrays, **options)

    monkeypatch.setattr(pallas_tpu, "_attend", recorded)
    monkeypatch.setattr(pallas_tpu, "_rows_at_once", lambda problem, blocks: 150)
    case = dataclasses.replace(RAGGED, rows=320, before=130)
    check_values(pallas_tpu, case)
    assert parts == [(150, 280, 130), (150, 430, 280), (20, 450, 430)]
    check_gradients(pallas_tpu, case)


@pytest.mark.parametrize(("tokens", "calls"), [(17_247, 1), (525_000, 1), (1_573_727, 9)])
def test_tpu_block_tables_any_length_fit_memory(tokens: int, calls: int) -> None:
    query = jax.ShapeDtypeStruct((1, tokens, 12, 128), jnp.bfloat16)
    key = jax.ShapeDtypeStruct((1, tokens, 2, 128), jnp.bfloat16)
    problem = Problem.of(query, key, key, True, None, 0, False)
    blocks = pallas_tpu.BlockSizes()
    rows = pallas_tpu._rows_at_once(problem, blocks)
    assert -(-tokens // rows) == calls

    def fit(rows: int) -> bool:
        part = dataclasses.replace(problem, rows=rows)
        return pallas_tpu._table_bytes(part, blocks) <= pallas_tpu.SCALAR_MEMORY

    assert fit(rows)
    assert calls == 1 or not fit(-(-tokens // (calls - 1))), "one call less would suffice"


@pytest.mark.parametrize(
    ("module", "sizes", "words"),
    [
        (pallas_tpu, {"forward_keys": 100}, "forward_keys=100 must be a positive multiple of 128"),
        (pallas_gpu, {"backward_queries": 48}, "backward_queries=48 must be a power of two"),
    ],
)
def test_block_sizes_invalid_refused(module, sizes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        module.BlockSizes(**sizes)


def test_tpu_causal_blocks_equal_jax_tables() -> None:
    rows, keys, offset = 512, 1024, 512
    blocks = splash.BlockSizes(
        block_q=128,
        block_kv=256,
        block_q_dkv=256,
        block_kv_dkv=128,
        block_q_dq=128,
        block_kv_dq=128,
    )
    slow = splash.make_splash_mha_single_device(
        mask=masks.MultiHeadMask([masks.CausalMask((rows, keys), offset)]), block_sizes=blocks
    )
    for theirs, sizes, keys_first in (
        (slow.fwd_mask_info, (128, 256), False),
        (slow.dq_mask_info, (128, 128), False),
        (slow.dkv_mask_info, (256, 128), True),
    ):
        ours = pallas_tpu._causal_blocks(rows, keys, *sizes, offset, keys_first=keys_first)
        np.testing.assert_array_equal(ours.block_mask, theirs.block_mask)
        seen = theirs.block_mask > 0  # elsewhere it only prefetches
        np.testing.assert_array_equal(ours.data_next[seen], theirs.data_next[seen])


@pytest.mark.parametrize("length", [200, 1280])
def test_pair_kernel_in_interpreter_equals_definition(length: int) -> None:
    case = Case(length, 0, 4, 1, 64, "bfloat16", causal=False, masked=False, seed=length)
    query, key, value = case.inputs()
    problem = Problem.of(query, key, value, False, None, 0, False)
    assert pair_kernel.accepts(problem)
    got = pair_kernel.attention(query, key, value, interpret=True)
    want, _ = reference.attention(query, key, value, causal=False)
    # Control: the heads of each pair exchanged.
    control = got.reshape(2, length, 2, 2, 64)[:, :, :, ::-1].reshape(got.shape)
    atol = 8e-3  # weights and output are rounded to bfloat16
    np.testing.assert_allclose(got.astype(np.float32), want, atol=atol)
    assert np.abs(control.astype(np.float32) - want).max() > 10 * atol


def test_pair_kernel_gradients_equal_definition() -> None:
    case = Case(160, 0, 2, 1, 64, "bfloat16", causal=False, masked=False, seed=3)
    inputs = case.inputs()
    problem = Problem.of(*inputs, False, None, 0, False)

    def attend(*inputs: jax.Array) -> jax.Array:
        return pallas_tpu.attention(problem, *inputs, None, target=NOWHERE, interpret=True)[0]

    def define(*inputs: jax.Array) -> jax.Array:
        return reference.attention(*inputs, causal=False)[0]

    got, pull = jax.vjp(attend, *inputs)
    want, pull_definition = jax.vjp(define, *inputs)
    np.testing.assert_allclose(got.astype(np.float32), want, atol=8e-3)
    for grad, other in zip(pull(got), pull_definition(got.astype(jnp.float32)), strict=True):
        np.testing.assert_allclose(
            grad.astype(np.float32), other.astype(np.float32), atol=8e-3, rtol=2e-2
        )
