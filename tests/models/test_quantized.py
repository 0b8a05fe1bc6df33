"""Tests int8 weights and KV caches: rounding, results, loading and placement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import AbstractMesh, AxisType

from tests.tiny import TINY, tiny_params
from xcomp_jax.checkpoint import load_params, save_params
from xcomp_jax.checkpoint.read import CheckpointReader
from xcomp_jax.config import ConfigError
from xcomp_jax.engine.engine import Engine
from xcomp_jax.inference.save_model import save_pretrained
from xcomp_jax.models.quantized import (
    cached,
    dequantize,
    is_quantized,
    quantize,
    quantized_params,
)
from xcomp_jax.models.xcomp import Params, abstract_params
from xcomp_jax.pretrained import from_pretrained
from xcomp_jax.sharding import AXES, parameter_shardings
from xcomp_jax.variants import XCOMP_2B

RNG = np.random.default_rng(0)
PREFIX, SUFFIX = [3, 5, 7], [11, 2, 9, 4]
VISUAL = RNG.normal(size=(64, TINY.llm.hidden_size)).astype(np.float32)


def flat(params: Params) -> dict[str, Any]:
    return traverse_util.flatten_dict(params, sep="/")


def dequantized_params(params: Params) -> Params:
    """Returns float parameters with the values that the int8 ones stand for."""
    leaves = flat(params)
    for path in [path for path in leaves if path.endswith("_scale")]:
        axis = -1 if "embedding" in path else -2
        scale, matrix = leaves.pop(path), path.removesuffix("_scale")
        leaves[matrix] = dequantize(leaves[matrix], scale, axis, jnp.float32)
    return traverse_util.unflatten_dict(leaves, sep="/")


@pytest.mark.parametrize("axis", [-1, -2])
def test_quantize_error_is_half_a_step(axis: int) -> None:
    values = RNG.normal(size=(5, 40, 30)).astype(np.float32) * np.exp(RNG.normal(size=(5, 1, 30)))
    values = values.astype(np.float32)
    values[0, :, 3] = values[0, 3, :] = 0
    integers, scale = quantize(values, axis)
    steps = np.expand_dims(scale, axis).astype(np.float32)
    assert np.abs(integers.astype(int)).max() == 127, "the range is used and not exceeded"
    assert (np.abs(integers * steps - values) <= steps / 2 * (1 + 1e-6)).all()
    assert (integers[values == 0] == 0).all()
    largest = np.abs(values).max(axis, keepdims=True)
    nearest = (largest / 127).astype(jnp.bfloat16).astype(np.float32)
    overflow = np.round(largest / np.where(nearest > 0, nearest, 1)) > 127
    assert overflow.any(), "control: a scale rounded to nearest exceeds the range"


def test_quantize_jax_equals_numpy() -> None:
    values = RNG.normal(size=(4, 20, 10)).astype(np.float32)
    for first, second in zip(quantize(values, -2), quantize(jnp.asarray(values), -2), strict=True):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, np.asarray(second))


def logits_and_cache(params: Params) -> tuple[np.ndarray, Any]:
    engine = Engine(TINY, params)
    cache = engine.prefill_video([VISUAL], [PREFIX])
    return np.asarray(engine.extend(cache, [SUFFIX], max_new_tokens=4).logits), cache


def test_engine_int8_equals_dequantized_weights() -> None:
    params = quantized_params(tiny_params())
    logits, cache = logits_and_cache(params)
    exact, exact_cache = logits_and_cache(dequantized_params(params))
    key = cached((cache[0].key, cache[0].key_scale), jnp.float32)
    assert cache[0].key.dtype == jnp.int8
    # The cache differs by its own rounding only, the logits by what follows from it.
    step = np.asarray(cache[0].key_scale.astype(jnp.float32))[..., None]
    real = np.asarray(cache[0].mask)[None, :, :, None, None]
    distance = np.abs(np.asarray(key) - np.asarray(exact_cache[0].key))
    assert (np.where(real, distance, 0) <= 0.5 * step + 1e-4)[0].all()
    scale = np.linalg.norm(exact)
    assert np.linalg.norm(logits - exact) < 0.02 * scale
    shuffled = flat(params)
    name = "llm/layers/mlp/up_proj/kernel_scale"
    shuffled[name] = shuffled[name][:, ::-1]
    other, _ = logits_and_cache(traverse_util.unflatten_dict(shuffled, sep="/"))
    assert np.linalg.norm(other - exact) > 0.1 * scale, "control: scales of other channels"


def test_load_int8_quantizes_one_layer_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_params(tmp_path / "model", TINY, tiny_params(), source={})
    rows: dict[str, int] = {}
    part = CheckpointReader.part

    def counted(self: CheckpointReader, path: str, index: Any, dtype: Any = None) -> np.ndarray:
        values = part(self, path, index, dtype)
        rows[path] = max(rows.get(path, 0), len(values))
        return values

    monkeypatch.setattr(CheckpointReader, "part", counted)
    _, loaded = load_params(tmp_path / "model", quantization="int8")
    expected = flat(quantized_params(tiny_params()))
    assert flat(loaded).keys() == expected.keys()
    for path, leaf in flat(loaded).items():
        assert leaf.dtype == expected[path].dtype, path
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected[path]), err_msg=path)
    assert rows["llm/layers/mlp/up_proj/kernel"] == 1
    assert rows["vision/blocks/mlp/fc1/kernel"] == TINY.vision.depth, "control: read as a whole"
    with pytest.raises(ConfigError, match=r"cannot be saved; load the checkpoint without quantize"):
        save_pretrained(tmp_path / "again", TINY, loaded)


def test_from_pretrained_unknown_quantization_raises() -> None:
    with pytest.raises(ValueError, match=r"quantize='int4' is not known; use 'int8' or None"):
        from_pretrained("anything", quantize="int4")  # type: ignore[arg-type]


def test_published_model_int8_has_rules_for_scales() -> None:
    params = abstract_params(XCOMP_2B)
    shapes = jax.eval_shape(quantized_params, params)
    sizes = {"data": 1, "fsdp": 4, "tensor": 2, "context": 1}
    mesh = AbstractMesh(tuple(sizes[a] for a in AXES), AXES, axis_types=(AxisType.Auto,) * 4)
    shardings = flat(parameter_shardings(shapes, mesh))
    for path, sharding in shardings.items():
        if path.endswith("_scale"):
            matrix = shardings[path.removesuffix("_scale")].spec
            channel = matrix[0] if "embedding" in path else matrix[-1]
            assert (sharding.spec or (None,))[-1] in (channel, None), path
    assert is_quantized(shapes)
    assert not is_quantized(params)
    llm = {name: leaf for name, leaf in flat(shapes).items() if name.startswith("llm")}
    size = sum(leaf.size * TINY.compute_dtype.itemsize for leaf in llm.values())
    quantized = sum(leaf.size * leaf.dtype.itemsize for leaf in llm.values())
    assert quantized < 0.26 * size
