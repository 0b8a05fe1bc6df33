"""Token merging (ToMe): exact bipartite soft matching with a size-weighted average.

Facts: projector. Each step splits the tokens into sources (even places) and destinations (odd
places), joins the most similar sources to their best destination, and leaves first the unmerged
sources in descending similarity, then the destinations in place order. So after a step that merges
only some sources the order is no longer spatial; the language model's "tokens of a frame" are
consecutive runs of that order.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def merge_steps(num_tokens: int, target: int) -> tuple[int, ...]:
    """How many tokens each step merges: (6272, 128) gives 3136, 1568, 784, 392, 196, 68.

    Raises:
        ValueError: when there is nothing to merge (the original asserts the same).
    """
    if not 1 <= target < num_tokens:
        raise ValueError(f"{target=} must lie in [1, {num_tokens - 1}] to merge {num_tokens=}")
    steps = []
    while num_tokens > target:
        step = min(num_tokens - target, num_tokens // 2)
        steps.append(step)
        num_tokens -= step
    return tuple(steps)


def merge_tokens(x: Array, target: int, num_heads: int) -> tuple[Array, Array]:
    """Merges [C, S, D] tokens of every clip to `target` tokens.

    Args:
        x: [C, S, D] features.
        target: tokens left per clip, fewer than S.
        num_heads: the similarity compares the mean over that many equal slices of the channels.

    Returns:
        merged [C, target, D] and size [C, target] float32, how many tokens each one averages.
    """
    size = jnp.ones(x.shape[:2], jnp.float32)
    for step in merge_steps(x.shape[1], target):
        x, size = jax.vmap(_merge_step, in_axes=(0, 0, None, None))(x, size, step, num_heads)
    return x, size


def _merge_step(x: Array, size: Array, merged: int, num_heads: int) -> tuple[Array, Array]:
    """One clip: x [S, D], size [S] -> [S - merged, D], [S - merged]."""
    # Choices are piecewise constant in x; without the stop, the norm's gradient would only add
    # NaNs.
    metric = jax.lax.stop_gradient(x).astype(jnp.float32)
    metric = metric.reshape(x.shape[0], num_heads, -1).mean(axis=1)
    metric = metric / jnp.linalg.norm(metric, axis=-1, keepdims=True)
    similarity = jnp.matmul(metric[0::2], metric[1::2].T, precision=jax.lax.Precision.HIGHEST)
    best = jnp.argmax(similarity, axis=1)
    order = jnp.argsort(-jnp.max(similarity, axis=1), stable=True)
    joined, left = order[:merged], order[merged:]

    # Weighted mean through sums, so that merging a merged token counts each of its members once.
    weighted = x.astype(jnp.float32) * size[:, None]
    total = weighted[1::2].at[best[joined]].add(weighted[0::2][joined])
    total_size = size[1::2].at[best[joined]].add(size[0::2][joined])
    kept = jnp.concatenate([weighted[0::2][left], total])
    kept_size = jnp.concatenate([size[0::2][left], total_size])
    return (kept / kept_size[:, None]).astype(x.dtype), kept_size
