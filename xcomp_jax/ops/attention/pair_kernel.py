"""Forward attention on TPU for pairs of heads of size 64, in the layout of the projections.

Splash attention takes heads before tokens and pads a head of 64 to the 128 lanes of a register, so
that queries, keys, values and output are each copied. This kernel reads two heads side by side from
[B, S, N * H], which is how a projection writes them, and writes its output the same way. The other
head's queries are set to zero, so that a product over 128 lanes is the score of one head; a product
with 64 lanes would occupy the matrix unit as long.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Float

from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.block_sizes import evenly
from xcomp_jax.ops.padding import pad_rows

LANES = 128
HEAD_SIZE = LANES // 2
LARGEST_BLOCK = 1024
"""Queries of a block, and keys multiplied at a time."""
MAX_KEYS = 8192
"""Keys and values of a pair, all in vector memory: 4 MiB in bfloat16, twice to load ahead."""
VECTOR_MEMORY = 40 * 2**20
"""Bytes of a call; a v5p has 64 MiB, v5e and v6e have 128. The compiler's default is 16 MiB."""
# Finite, so that a masked score minus the largest one is not NaN.
MASKED = -1e30


_State = tuple[Array, Array, Array]


def accepts(problem: Problem) -> bool:
    """Checks that the kernel computes `problem`."""
    return (
        problem.size == HEAD_SIZE
        and problem.heads == problem.kv_heads
        and problem.heads % 2 == 0
        and problem.keys <= MAX_KEYS
        and problem.dtype == jnp.bfloat16
        and not (problem.causal or problem.masked or problem.return_lse)
    )


def attention(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S N H"],
    value: Float[Array, "B S N H"],
    *,
    interpret: bool = False,
) -> Float[Array, "B Q N H"]:
    """Computes attention of every row to every key; see `dispatch.attention`."""
    batch, rows, heads, size = query.shape
    keys = key.shape[1]
    row_block, key_block = (evenly(length, LARGEST_BLOCK, LANES) for length in (rows, keys))
    padded_rows, padded_keys = (
        -(-length // block) * block for length, block in ((rows, row_block), (keys, key_block))
    )

    def side_by_side(x: Array, length: int) -> Array:
        return pad_rows(x.reshape(batch, x.shape[1], heads * size), length)

    whole = pl.BlockSpec((None, padded_keys, LANES), lambda b, pair, block: (b, 0, pair))
    part = pl.BlockSpec((None, row_block, LANES), lambda b, pair, block: (b, block, pair))
    out = pl.pallas_call(
        functools.partial(_kernel, keys=keys, key_block=key_block),
        out_shape=jax.ShapeDtypeStruct((batch, padded_rows, heads * size), query.dtype),
        grid=(batch, heads // 2, padded_rows // row_block),
        in_specs=[part, whole, whole],
        out_specs=part,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=VECTOR_MEMORY),
        interpret=interpret,
        name="pair_attention",
    )(side_by_side(query, padded_rows), *(side_by_side(x, padded_keys) for x in (key, value)))
    return out[:, :rows].reshape(query.shape)


def _kernel(
    query_ref: Any, key_ref: Any, value_ref: Any, out_ref: Any, *, keys: int, key_block: int
) -> None:
    query = query_ref[...] * HEAD_SIZE**-0.5
    first = lax.broadcasted_iota(jnp.int32, query.shape, 1) < HEAD_SIZE
    zero = jnp.zeros_like(query)
    queries = (jnp.where(first, query, zero), jnp.where(first, zero, query))
    padded = key_ref.shape[0] > keys

    def one_block(index: Array, states: tuple[_State, _State]) -> tuple[_State, _State]:
        start = pl.multiple_of(index * key_block, key_block)
        key, value = (ref[pl.ds(start, key_block), :] for ref in (key_ref, value_ref))
        seen = keys - start if padded else None
        # Both heads, so that the products of one overlap with the softmax of the other.
        one, other = (
            _attend(head, key, value, seen, state)
            for head, state in zip(queries, states, strict=True)
        )
        return one, other

    empty = (
        jnp.full((query.shape[0], 1), MASKED, jnp.float32),
        jnp.zeros((query.shape[0], 1), jnp.float32),
        jnp.zeros(query.shape, jnp.float32),
    )
    blocks = key_ref.shape[0] // key_block
    one, other = lax.fori_loop(0, blocks, one_block, (empty, empty))
    out_ref[...] = jnp.where(first, one[2] / one[1], other[2] / other[1]).astype(out_ref.dtype)


def _attend(query: Array, key: Array, value: Array, seen: Array | None, state: _State) -> _State:
    """Adds a block of keys to the online softmax of one head.

    Args:
        query: [rows, 128], zero in the lanes of the other head.
        seen: number of real keys from here on, None if all are real.
        state: largest score and sum of weights [rows, 1], and weighted values [rows, 128], of which
            only the lanes of this head have a meaning.
    """
    largest, total, out = state
    scores = lax.dot_general(
        query, key, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    if seen is not None:
        scores = jnp.where(lax.broadcasted_iota(jnp.int32, scores.shape, 1) < seen, scores, MASKED)
    larger = jnp.maximum(largest, jnp.max(scores, axis=1, keepdims=True))
    weights = jnp.exp(scores - larger)
    shrink = jnp.exp(largest - larger)
    total = total * shrink + jnp.sum(weights, axis=1, keepdims=True)
    added = jnp.dot(weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    return larger, total, out * shrink + added
