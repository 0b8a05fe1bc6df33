"""Compare every implementation of the kernels on this device with the definition in float32."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.launch.bench.deadline import Deadline
from xcomp_jax.launch.bench.kernels import attention_inputs, clip_inputs
from xcomp_jax.launch.bench.shapes import (
    ATTENTION,
    CLIPS,
    TINY_ATTENTION,
    TINY_CLIPS,
    AttentionShape,
    ClipShape,
)
from xcomp_jax.ops import attention as attention_op
from xcomp_jax.ops import clip_scores as clip_scores_op
from xcomp_jax.ops.attention import reference
from xcomp_jax.ops.cached_attention import cached_attention
from xcomp_jax.ops.target import current_target

Row = dict[str, Any]

# Sizes at which the definition, which holds all scores in float32, fits in memory.
ATTENTION_SHAPES = ("vit_448_clip4", "qwen2_1p5b_4k")
CLIP_SHAPES = ("scores_16_tokens", "scores_1_token")
CACHED, ROOM = 16_384, 1024
LIMITS = {"bfloat16": 2e-2, "float32": 2e-5}
"""Largest relative error that rounding explains."""


def measure(*, tiny: bool, deadline: Deadline) -> Iterator[Row]:
    """Yields the relative error (Euclidean norms) of outputs and gradients.

    Products of float32 arrays are computed in full precision, which GPUs do not do by default.
    """
    shapes = TINY_ATTENTION if tiny else [s for s in ATTENTION if s.name in ATTENTION_SHAPES]
    scored = TINY_CLIPS if tiny else [s for s in CLIPS if s.name in CLIP_SHAPES]
    platform = current_target().platform
    with jax.default_matmul_precision("highest"):
        for dtype in ("bfloat16", "float32"):
            for shape in shapes:
                for name in attention_op.PREFERRED[platform]:
                    if name == "cudnn" and dtype == "float32":
                        continue  # which it refuses
                    compare = functools.partial(_attention, shape, dtype, name)
                    yield _row("attention", shape.name, dtype, name, compare, deadline)
            for clips in scored:
                for name in clip_scores_op.PREFERRED[platform]:
                    compare = functools.partial(_clip_scores, clips, dtype, name)
                    yield _row("clip_scores", clips.name, dtype, name, compare, deadline)
            for rows in (5,) if tiny else (863, 1):
                case = f"{rows} rows over a cache"
                compare = functools.partial(_cached, rows, tiny, dtype)
                yield _row("cached_attention", case, dtype, "selected", compare, deadline)


def _row(
    operation: str,
    shape: str,
    dtype: str,
    implementation: str,
    compare: Callable[[], dict[str, float]],
    deadline: Deadline,
) -> Row:
    row: Row = {
        "operation": operation,
        "shape": shape,
        "dtype": dtype,
        "implementation": implementation,
    }
    if deadline.passed:
        return {**row, "note": "not measured: out of time"}
    try:
        errors = compare()
    except Exception as error:  # the other rows stay useful
        return {**row, "note": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
    return {**row, **errors, "agrees": all(error <= LIMITS[dtype] for error in errors.values())}


def _error(actual: Any, expected: Any) -> float:
    actual, expected = jnp.asarray(actual, jnp.float32), jnp.asarray(expected, jnp.float32)
    return float(jnp.linalg.norm((actual - expected).ravel()) / jnp.linalg.norm(expected.ravel()))


def _attention(shape: AttentionShape, dtype: str, implementation: str) -> dict[str, float]:
    *arrays, real = attention_inputs(shape, jnp.dtype(dtype))
    mask = real if shape.masked else None
    # Outputs of padded rows are unspecified.
    kept = real[..., None, None] if shape.masked else jnp.ones((1, 1, 1, 1), bool)

    def outputs(attend: Callable[..., Array], *inputs: Array) -> tuple[Array, ...]:
        def real_rows(*inputs: Array) -> Array:
            return jnp.where(kept, attend(*inputs), 0)

        out, pull = jax.vjp(real_rows, *inputs)
        return (out, *pull(out))

    def attend(query: Array, key: Array, value: Array) -> Array:
        return attention_op.attention(
            query, key, value, causal=shape.causal, key_mask=mask, implementation=implementation
        )

    def definition(query: Array, key: Array, value: Array) -> Array:
        # Causal rows before the first real key would be NaN; the first key is always real.
        return reference.attention(query, key, value, causal=shape.causal, key_mask=mask)[0]

    actual = jax.jit(functools.partial(outputs, attend))(*arrays)
    exact = (x.astype(jnp.float32) for x in arrays)
    expected = jax.jit(functools.partial(outputs, definition))(*exact)
    names = ("output", "query gradient", "key gradient", "value gradient")
    return {n: _error(a, b) for n, a, b in zip(names, actual, expected, strict=True)}


def _clip_scores(shape: ClipShape, dtype: str, implementation: str) -> dict[str, float]:
    *arrays, rows = clip_inputs(shape, jnp.dtype(dtype))

    def score(implementation: str, *arrays: Array) -> Array:
        return clip_scores_op.clip_scores(
            *arrays,
            segments=shape.segments,
            rows=rows,
            rope_theta=1_000_000.0,
            implementation=implementation,
        )

    actual = jax.jit(functools.partial(score, implementation))(*arrays)
    expected = jax.jit(functools.partial(score, "xla"))(*(x.astype(jnp.float32) for x in arrays))
    return {"output": _error(actual, expected)}


def _cached(rows: int, tiny: bool, dtype: str) -> dict[str, float]:
    heads, kv_heads, size = (2, 1, 16) if tiny else (12, 2, 128)
    cached, room = (64, 16) if tiny else (CACHED, ROOM)
    keys = jax.random.split(jax.random.key(0), 5)
    lengths = (cached, cached, room, room)
    query = jax.random.normal(keys[0], (1, rows, heads, size), dtype)
    parts = [
        jax.random.normal(key, (1, length, kv_heads, size), dtype)
        for key, length in zip(keys[1:], lengths, strict=True)
    ]
    mask = (jnp.arange(cached) % 7 != 3)[None]
    written = jnp.array([3], jnp.int32)
    actual = jax.jit(cached_attention)(
        query, (parts[0], parts[1]), mask, (parts[2], parts[3]), written
    )
    stop = 3 + rows  # text that the rows see
    expected, _ = reference.attention(
        query,
        jnp.concatenate([parts[0], parts[2][:, :stop]], axis=1),
        jnp.concatenate([parts[1], parts[3][:, :stop]], axis=1),
        causal=True,
        key_mask=jnp.concatenate([mask, jnp.ones((1, stop), bool)], axis=1),
        query_offset=cached + 3,
    )
    return {"output": _error(actual, expected)}
