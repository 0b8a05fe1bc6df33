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

from xcomp_jax.ops.target import current_target


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
    metric = _mean_over_heads(jax.lax.stop_gradient(x), num_heads)
    metric = metric / jnp.linalg.norm(metric, axis=-1, keepdims=True)
    return jnp.matmul(metric[0::2], metric[1::2].T, precision=jax.lax.Precision.HIGHEST)


def _mean_over_heads(x: Float[Array, "S D"], num_heads: int) -> Float[Array, "S head"]:
    """Averages equal slices of the channels, in float32."""
    size = x.shape[1] // num_heads
    if current_target().platform == "cpu":
        return x.astype(jnp.float32).reshape(-1, num_heads, size).mean(axis=1)
    # Slices of 64 channels are half a vector of a TPU; the product is exact but for its sums.
    average = jnp.tile(jnp.eye(size, dtype=x.dtype) / num_heads, (num_heads, 1))
    return _product(x, average)


def _product(a: Array, b: Array) -> Array:
    """Multiplies matrices without rounding their elements; sums are float32."""
    return jnp.matmul(
        a,
        b,
        precision=jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )


def merge_matches(
    x: Float[Array, "S D"],
    size: Float[Array, " S"],
    best: Int[Array, " sources"],
    rank: Int[Array, " sources"],
    merged: int,
) -> tuple[Float[Array, "S_after D"], Float[Array, " S_after"]]:
    """Merges the sources whose rank is below `merged` into their destinations `best`."""
    destinations = size.shape[0] // 2
    unmerged = size.shape[0] - destinations - merged
    place = jnp.where(rank < merged, unmerged + best, rank - merged)
    # Weighted mean through sums, so that merging a merged token counts each of its members once.
    sums = x[1::2].astype(jnp.float32) * size[1::2, None]
    sums, sizes = (
        jnp.pad(part, ((unmerged, 0),) + ((0, 0),) * (part.ndim - 1)) for part in (sums, size[1::2])
    )
    add = _add_rows if current_target().platform == "cpu" else _add_products
    sums, sizes = add(sums, sizes, x[0::2], size[0::2], place)
    return (sums / sizes[:, None]).astype(x.dtype), sizes


def _add_rows(
    sums: Array, sizes: Array, x: Array, size: Array, place: Array
) -> tuple[Array, Array]:
    """Adds rows x [sources, D] of weight `size` to `sums` and `sizes` at `place`, one by one."""
    weighted = x.astype(jnp.float32) * size[:, None]
    return sums.at[place].add(weighted), sizes.at[place].add(size)


def _add_products(
    sums: Array, sizes: Array, x: Array, size: Array, place: Array
) -> tuple[Array, Array]:
    """Computes `_add_rows` as a product with the matrix of places.

    Accelerators scatter rows slowly, and TPU compilers take a minute for it. In bfloat16 the
    products are exact for sizes up to 256.
    """
    chosen = place[None, :] == jnp.arange(sizes.shape[0])[:, None]
    weights = jnp.where(chosen, size[None, :], 0.0)
    return sums + _product(weights.astype(x.dtype), x), sizes + jnp.sum(weights, axis=1)


def _first_largest(similarity: Float[Array, "sources destinations"]) -> tuple[Array, Array]:
    """Returns the largest similarity of every source, and its first place; NaN gives some place."""
    places = jnp.broadcast_to(jnp.arange(similarity.shape[1]), similarity.shape)
    if current_target().platform != "cpu":
        # One reduction of pairs, which a TPU makes part of the product before it.
        most, best = jax.lax.reduce((similarity, places), (-jnp.inf, 0), _larger, dimensions=(1,))
        # The compiler keeps values that nobody uses in bfloat16, perhaps also while it compares.
        return most, jnp.where(jnp.isfinite(most), best, 0)
    # Two plain reductions: a CPU computes that of pairs one by one.
    most = jnp.max(similarity, axis=1)
    is_most = ~(similarity < most[:, None])
    return most, jnp.min(jnp.where(is_most, places, similarity.shape[1] - 1), axis=1)


def _larger(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    """Returns the pair with the larger value, of equal values the one with the smaller place."""
    (value, place), (other_value, other_place) = one, other
    first = (value > other_value) | ((value == other_value) & (place < other_place))
    return jnp.where(first, value, other_value), jnp.where(first, place, other_place)


def _ranks(score: Float[Array, " sources"]) -> Int[Array, " sources"]:
    """Ranks sources by descending score, equal ones by place, without a sort."""
    place = jnp.arange(score.shape[0])
    score = jnp.where(jnp.isnan(score), -jnp.inf, score)
    ahead = (score[None, :] > score[:, None]) | (
        (score[None, :] == score[:, None]) & (place[None, :] < place[:, None])
    )
    return jnp.sum(ahead, axis=1)


def _merge_step(x: Array, size: Array, merged: int, num_heads: int) -> tuple[Array, Array]:
    """Merges one clip: x [S, D], size [S] -> [S - merged, D], [S - merged]."""
    most, best = _first_largest(source_similarity(x, num_heads))
    # Where all sources are merged, their order is of no consequence.
    sources = best.shape[0]
    rank = jnp.zeros((sources,), jnp.int32) if merged == sources else _ranks(most)
    return merge_matches(x, size, best, rank, merged)
