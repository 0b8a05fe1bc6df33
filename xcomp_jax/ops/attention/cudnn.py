"""Attention on GPU through JAX's interface to cuDNN.

cuDNN supports padding only behind the real keys. Here padding lies between them (three parts, each
padded), so tokens are first reordered: the real ones, then the others. That is one pass over
queries, keys and values, against a product of the length with itself. Under a causal mask no real
row then sees padding, and cuDNN needs no lengths.
"""

from __future__ import annotations

import functools
import importlib.util

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from xcomp_jax.ops.attention.problem import Problem
from xcomp_jax.ops.choice import wrong_platform
from xcomp_jax.ops.target import Target

PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def refusal(problem: Problem, target: Target) -> str | None:
    """Returns why this implementation does not support the inputs, or None."""
    if problem.dtype not in (jnp.bfloat16, jnp.float16):
        return f"dtype {problem.dtype}; it supports bfloat16 and float16"
    if problem.size % 8 or problem.size > 128:
        return f"head size {problem.size} is not a multiple of 8 up to 128"
    if problem.return_lse:
        return "return_lse: its log-sum-exp is rounded to the dtype and has no gradient"
    if problem.causal and problem.rows != problem.keys:
        return (
            f"{problem.rows} causal rows over {problem.keys} keys: its causal mask starts at the "
            "first key"
        )
    wrong = wrong_platform("gpu", target.platform)
    if wrong is None and not any(importlib.util.find_spec(name) for name in PLUGINS):
        return f"none of {PLUGINS} is installed, and without one JAX finds no cuDNN"
    return wrong


def attention(
    problem: Problem,
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    key_mask: Bool[Array, "B S"] | None,
) -> Float[Array, "B Q N H"]:
    """Computes attention, see `dispatch.attention`."""
    attend = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    if key_mask is None:
        return attend(query, key, value, is_causal=problem.causal)
    key_mask, key, value = (_even(x) for x in (key_mask, key, value))
    order = jnp.argsort(~key_mask, axis=1, stable=True)
    back = jnp.argsort(order, axis=1)
    key, value = _reorder(key, order, back), _reorder(value, order, back)
    if problem.causal:  # a row may only see keys before its own, so rows move with their keys
        query = _reorder(_even(query), order, back)
        out = _reorder(attend(query, key, value, is_causal=True), back, order)
    else:
        lengths = jnp.sum(key_mask, axis=1, dtype=jnp.int32)
        out = attend(
            _even(query),
            key,
            value,
            query_seq_lengths=jnp.full_like(lengths, problem.rows),
            key_value_seq_lengths=lengths,
        )
    return out[:, : problem.rows]


def _even(x: Array) -> Array:
    """Pads to an even length, which the backward pass requires with padded keys."""
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2)) + ((0, 0),) * (x.ndim - 2))


@jax.custom_vjp
def _reorder(x: Array, order: Array, back: Array) -> Array:
    """Gathers x[b, order[b]]; the gradient is the inverse gather instead of a scatter-add."""
    return jnp.take_along_axis(x, order[:, :, None, None], axis=1)


def _reorder_forward(x: Array, order: Array, back: Array) -> tuple[Array, tuple[Array, Array]]:
    return _reorder(x, order, back), (order, back)


def _reorder_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None, None]:
    order, back = saved
    return _reorder(gradient, back, order), None, None


_reorder.defvjp(_reorder_forward, _reorder_backward)
