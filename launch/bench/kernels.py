"""Measure every implementation of attention and clip scores on every shape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xcomp_jax.launch.bench.deadline import Deadline
from xcomp_jax.launch.bench.shapes import (
    ATTENTION,
    CLIPS,
    TINY_ATTENTION,
    TINY_CLIPS,
    AttentionShape,
    ClipShape,
)
from xcomp_jax.launch.bench.timing import seconds
from xcomp_jax.ops import attention as attention_op
from xcomp_jax.ops import clip_scores as clip_scores_op
from xcomp_jax.ops.clip_scores import TextRows
from xcomp_jax.ops.target import current_target
from xcomp_jax.peaks import peak_of

Row = dict[str, Any]

# Above this length the XLA reference takes seconds where kernels take milliseconds.
MAX_TOKENS_FOR_XLA = 20_000


def measure(*, tiny: bool, deadline: Deadline) -> Iterator[Row]:
    """Yields one row per measurement; an implementation that fails is a row with the error."""
    yield from attention_rows(TINY_ATTENTION if tiny else ATTENTION, deadline)
    yield from clip_score_rows(TINY_CLIPS if tiny else CLIPS, deadline)


def attention_rows(shapes: Sequence[AttentionShape], deadline: Deadline) -> Iterator[Row]:
    """Yields the rows of attention, forward and with gradients, by every implementation."""
    platform = current_target().platform
    for shape in shapes:
        arrays = attention_inputs(shape, _dtype(platform))
        for backward in (False, True):
            for name in attention_op.PREFERRED[platform]:
                if name == "xla" and shape.tokens > MAX_TOKENS_FOR_XLA:
                    continue
                yield _row(
                    "attention" + (" forward+backward" if backward else ""),
                    shape.name,
                    name,
                    functools.partial(_attention, shape, name, backward),
                    arrays,
                    shape.flops(backward=backward),
                    shape.nbytes(backward=backward),
                    deadline,
                )


def clip_score_rows(shapes: Sequence[ClipShape], deadline: Deadline) -> Iterator[Row]:
    """Yields the rows of clip scores by every implementation."""
    platform = current_target().platform
    for scored in shapes:
        arrays = clip_inputs(scored, _dtype(platform))
        for name in clip_scores_op.PREFERRED[platform]:
            yield _row(
                "clip_scores",
                scored.name,
                name,
                functools.partial(_clip_scores, scored, name),
                arrays,
                scored.flops(),
                scored.nbytes(),
                deadline,
            )


def _dtype(platform: str) -> Any:
    return jnp.float32 if platform == "cpu" else jnp.bfloat16


def _row(
    operation: str,
    shape: str,
    implementation: str,
    function: Callable[..., Any],
    arrays: Any,
    flops: float,
    nbytes: float,
    deadline: Deadline,
) -> Row:
    device = jax.devices()[0]
    row: Row = {
        "operation": operation,
        "shape": shape,
        "implementation": implementation,
        "platform": device.platform,
    }
    if deadline.passed:
        return {**row, "note": "not measured: out of time"}
    try:
        call_seconds = seconds(jax.jit(function), *arrays)
    except Exception as error:  # the other rows stay useful
        return {**row, "note": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
    row |= {
        "ms": 1e3 * call_seconds,
        "tflops": flops / call_seconds / 1e12,
        "gbytes": nbytes / call_seconds / 1e9,
    }
    if (peak := peak_of(device.device_kind)) is not None:
        row["of_roofline"] = peak.least_seconds(flops, nbytes) / call_seconds
    return row


def attention_inputs(shape: AttentionShape, dtype: Any) -> tuple[Array, ...]:
    """Returns random query, key and value, and a mask of real tokens."""
    keys = jax.random.split(jax.random.key(0), 3)
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    arrays = (
        jax.random.normal(key, (shape.batch, shape.tokens, n, shape.size), dtype)
        for key, n in zip(keys, heads, strict=True)
    )
    # Padding as in use: after the text before the video, and at the end.
    token = jnp.arange(shape.tokens)
    real = (token < 14) | ((token >= 16) & (token < shape.tokens - 3))
    return (*arrays, jnp.broadcast_to(real, (shape.batch, shape.tokens)))


def _attention(
    shape: AttentionShape,
    implementation: str,
    backward: bool,
    query: Array,
    key: Array,
    value: Array,
    real: Array,
) -> Any:
    def attend(*inputs: Array) -> Array:
        return attention_op.attention(
            *inputs,
            causal=shape.causal,
            key_mask=real if shape.masked else None,
            implementation=implementation,
        )

    if not backward:
        return attend(query, key, value)
    out, pull = jax.vjp(attend, query, key, value)
    return pull(out)


def clip_inputs(shape: ClipShape, dtype: Any) -> tuple[Any, ...]:
    """Returns random queries and keys of one window, and the rows of its text."""
    keys = jax.random.split(jax.random.key(0), 4)
    visual = shape.segments.num_clips * shape.segments.clip_tokens
    sizes = (
        (1, shape.rows, shape.heads, shape.size),
        (1, shape.prefix, shape.kv_heads, shape.size),
        (1, visual, shape.kv_heads, shape.size),
        (1, shape.rows, shape.kv_heads, shape.size),
    )
    arrays = (jax.random.normal(k, size, dtype) for k, size in zip(keys, sizes, strict=True))
    lengths = (shape.prefix - 2, 0, shape.rows, shape.rows)
    return (*arrays, TextRows(*(jnp.array([n], jnp.int32) for n in lengths)))


def _clip_scores(shape: ClipShape, implementation: str, *arrays: Any) -> Array:
    *inputs, rows = arrays
    return clip_scores_op.clip_scores(
        *inputs,
        segments=shape.segments,
        rows=rows,
        rope_theta=1_000_000.0,
        implementation=implementation,
    )
