"""Tests that the decoder in an accelerator's layout computes what it computes on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import TINY, exact, tiny_params
from xcomp_jax.config import CompressionConfig, LoRAConfig, ModelConfig
from xcomp_jax.models import apply, sequence
from xcomp_jax.models.xcomp import Params, XComp
from xcomp_jax.ops import heads, rope
from xcomp_jax.ops.attention import pallas_gpu, pallas_tpu
from xcomp_jax.ops.target import Target
from xcomp_jax.training.lora import init_adapters

TPU = Target("tpu", "TPU v5 lite")
PREFIX, FRAMES, SUFFIX = 3, 4, 6
COMPRESSIONS = {
    "suffix": CompressionConfig(schedule="stepwise", drop_after_layers=(1,), strides=(2,)),
    "ranked": CompressionConfig(
        schedule="ranked", drop_after_layers=(1,), ratios=(0.5,), ranking="attention"
    ),
}


@pytest.fixture(params=COMPRESSIONS, name="config")
def config_fixture(request: pytest.FixtureRequest) -> ModelConfig:
    llm = dataclasses.replace(TINY.llm, num_hidden_layers=2)
    return dataclasses.replace(TINY, llm=llm, compression=COMPRESSIONS[request.param])


def adapted_params(config: ModelConfig) -> Params:
    """Returns parameters with adapters that change the output."""
    params = tiny_params(config)
    adapters = init_adapters(LoRAConfig(rank=2), params)
    rng = np.random.default_rng(1)

    def draw(leaf: jax.Array) -> jax.Array:
        return jnp.asarray(0.2 * rng.normal(size=leaf.shape), leaf.dtype)

    return {**params, "lora": jax.tree.map(draw, adapters)}


def assert_close(actual: Any, expected: Any) -> None:
    """Checks an array within the rounding of a sum in another order."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def decoder(config: ModelConfig) -> Callable[[np.ndarray], dict[str, Any]]:
    """Returns a program of visual tokens, compiled in the layout of the current target.

    It computes hidden states, gradients, and the states of text after the cached video.
    """
    model, params, rng = XComp(config), adapted_params(config), np.random.default_rng(0)
    before, after = (rng.integers(0, 500, (1, n)).astype(np.int32) for n in (PREFIX, SUFFIX))
    lengths = exact(PREFIX, FRAMES * 4, SUFFIX)

    def loss(params: Params, visual: jax.Array) -> Any:
        out = apply.prefill(model, params, before, visual, after, lengths, collect_layers=True)
        return jnp.sum(jnp.tanh(out.suffix)) + jnp.sum(jnp.tanh(out.visual)), out

    @jax.jit
    def run(params: Params, visual: jax.Array) -> dict[str, Any]:
        gradients, out = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, visual)
        cache = apply.prefill_video(model, params, before, visual, exact(PREFIX, FRAMES * 4, 0))
        text = apply.empty_text_cache(model, params, 1, 8)
        extended, _ = apply.extend(model, params, after, jnp.zeros((1,), jnp.int32), cache, text)
        return {
            "hidden": (out.prefix, out.visual, out.suffix, out.layers),
            "gradients": (gradients[0]["llm"], gradients[0]["lora"], gradients[1]),
            "extended": extended,
            "slots": cache[0].key.shape[2],
        }

    return lambda visual: run(params, visual)


def test_decoder_in_tpu_layout_equals_cpu_layout(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    visual = np.random.default_rng(1).normal(size=(1, FRAMES * 4, 32)).astype(np.float32)
    on_cpu = decoder(config)
    expected, control = on_cpu(visual), on_cpu(np.roll(visual, 1, axis=1))
    assert expected["slots"] == PREFIX + FRAMES * 4
    monkeypatch.setattr(heads, "current_target", lambda: TPU)
    monkeypatch.setattr(sequence, "padded_length", pallas_tpu.padded_length)
    actual = decoder(config)(visual)
    assert actual["slots"] == 128
    for name in ("hidden", "gradients", "extended"):
        jax.tree.map(assert_close, actual[name], expected[name])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(control["extended"], expected["extended"])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rotation_by_product_is_exact(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 128), dtype)
    positions = jnp.arange(5)[None, :] + 70_000
    tables = rope.rope_tables(positions, 128, 1e6, jnp.dtype(dtype))
    expected = rope.rotate(x, *tables)
    monkeypatch.setattr(heads, "current_target", lambda: TPU)
    np.testing.assert_array_equal(rope.rotate(x, *tables), expected)
    turned = rope._turned_by_product
    monkeypatch.setattr(rope, "_turned_by_product", lambda x: -turned(x))
    assert np.any(rope.rotate(x, *tables) != expected)  # control: the other direction


@pytest.mark.parametrize(("kernel", "unit"), [(pallas_tpu, 128), (pallas_gpu, 64)])
def test_padded_length_is_padded_no_further(kernel: Any, unit: int) -> None:
    for rows in (1, 100, 128, 129, 1024, 1025, 6272, 17_247, 66_399):
        length = kernel.padded_length(rows)
        assert rows <= length == kernel.padded_length(length)
        assert length % unit == 0
    assert pallas_tpu.padded_length(17_247) == 17_408
