"""Token merging (ToMe): exact bipartite soft matching with a size-weighted average.

Each step splits the tokens into sources (even places) and destinations (odd places), joins the most
similar sources to their best destination, and puts the unmerged sources in descending similarity
before the destinations in place order. After a step that merges only part of the sources the order
is therefore no longer spatial; the language model's "tokens of a frame" are consecutive runs of it.
Reference: docs/reference_behaviour.md#token-merging.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int


def merge_steps(num_tokens: int, target: int) -> tuple[int, ...]:
    """Counts the tokens that each step merges: (6272, 128) gives 3136, 1568, 784, 392, 196, 68.

    Raises:
        ValueError: there is nothing to merge (the original asserts the same).
    """
    if not 1 <= target < num_tokens:
        raise ValueError(f"{target=} must lie in [1, {num_tokens - 1}] to merge {num_tokens=}")
    steps = []
    while num_tokens > target:
        step = min(num_tokens - target, num_tokens // 2)
        steps.append(step)
        num_tokens -= step
    return tuple(steps)


def merge_tokens(
    x: Float[Array, "C S D"], target: int, num_heads: int
) -> tuple[Float[Array, "C {target} D"], Float[Array, "C {target}"]]:
    """Merges the tokens of every clip to `target` tokens.

    Args:
        x: features.
        target: tokens per clip after merging, fewer than S.
        num_heads: the similarity compares the mean over that many equal slices of the channels.

    Returns:
        The merged tokens, and in float32 how many tokens each one averages.
    """
    size = jnp.ones(x.shape[:2], jnp.float32)
    for step in merge_steps(x.shape[1], target):
        x, size = jax.vmap(_merge_step, in_axes=(0, 0, None, None))(x, size, step, num_heads)
    return x, size


def source_similarity(
    x: Float[Array, "S D"], num_heads: int
) -> Float[Array, "sources destinations"]:
    """Computes the cosine similarity of every even token to every odd one."""
    # The choice is piecewise constant in x; without the stop, the norm's gradient would add NaNs.
    metric = jax.lax.stop_gradient(x).astype(jnp.float32)
    metric = metric.reshape(x.shape[0], num_heads, -1).mean(axis=1)
    metric = metric / jnp.linalg.norm(metric, axis=-1, keepdims=True)
    return jnp.matmul(metric[0::2], metric[1::2].T, precision=jax.lax.Precision.HIGHEST)


def merge_matches(
    x: Float[Array, "S D"],
    size: Float[Array, " S"],
    best: Int[Array, " sources"],
    order: Int[Array, " sources"],
    merged: int,
) -> tuple[Float[Array, "S_after D"], Float[Array, " S_after"]]:
    """Merges the first `merged` sources of `order` into their destinations `best`."""
    joined, unmerged = order[:merged], order[merged:]
    # Weighted mean through sums, so that merging a merged token counts each of its members once.
    weighted = x.astype(jnp.float32) * size[:, None]
    total = weighted[1::2].at[best[joined]].add(weighted[0::2][joined])
    total_size = size[1::2].at[best[joined]].add(size[0::2][joined])
    sums = jnp.concatenate([weighted[0::2][unmerged], total])
    sizes = jnp.concatenate([size[0::2][unmerged], total_size])
    return (sums / sizes[:, None]).astype(x.dtype), sizes


def _merge_step(x: Array, size: Array, merged: int, num_heads: int) -> tuple[Array, Array]:
    """Merges one clip: x [S, D], size [S] -> [S - merged, D], [S - merged]."""
    similarity = source_similarity(x, num_heads)
    best = jnp.argmax(similarity, axis=1)
    order = jnp.argsort(-jnp.max(similarity, axis=1), stable=True)
    return merge_matches(x, size, best, order, merged)
