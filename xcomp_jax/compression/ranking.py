"""Which visual tokens a ranked drop leaves: the heuristic of the base model, not LP-Comp.

Facts: upstream attention drop. Shapes are static: in a batch of videos of different lengths each
keeps its own number of tokens, which come first and in their order, padding after them.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xcomp_jax.compression.schedule import RankedDrop

# Score of a padded key: its weight after the softmax is exactly zero.
MASKED = -1e30


@flax.struct.dataclass
class Survivors:
    """The slots that stay.

    indices: [B, V'] int32 into the visual slots of the stage before, ascending up to `count` [B],
    the number of real tokens, and arbitrary from there on; attention: [B, V] float32, what the
    choice was made by, or None for tokens spread evenly.
    """

    indices: Array
    count: Array
    attention: Array | None

    def take(self, visual: Array) -> Array:
        """[B, V, D] -> [B, V', D]."""
        return jnp.take_along_axis(visual, self.indices[..., None], axis=1)


def attention_of_last_token(query: Array, key: Array, mask: Array) -> Array:
    """How much the last real token looks at every slot, mean over the heads.

    Args:
        query: [B, S, N, H] and key: [B, S, K, H], both rotated.
        mask: [B, S] bool, real tokens.

    Returns:
        [B, S] float32 with sum 1 over the real tokens and 0 on padding.
    """
    batch, slots, heads, size = query.shape
    kv_heads = key.shape[2]
    last = jnp.max(jnp.where(mask, jnp.arange(slots), 0), axis=1)
    row = jnp.take_along_axis(query, last[:, None, None, None], axis=1)
    grouped = row.reshape(batch, kv_heads, heads // kv_heads, size) * size**-0.5
    scores = jnp.einsum("bkgh,bskh->bkgs", grouped, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, MASKED), axis=-1)
    return jnp.mean(weights, axis=(1, 2))


def most_attended(attention: Array, length: Array, keep: int, count: Array) -> Array:
    """Slots of the `count` [B] largest entries among the first `length` [B] of [B, V], ascending.

    Returns:
        [B, keep] int32; `keep` is at least every count, what exceeds it is padding. Of equal
        entries the earlier goes first.
    """
    slots = attention.shape[1]
    real = jnp.arange(slots) < length[:, None]
    _, order = jax.lax.top_k(jnp.where(real, attention, -1.0), keep)
    chosen = jnp.where(jnp.arange(keep) < count[:, None], order, slots)
    return jnp.minimum(jnp.sort(chosen, axis=1), slots - 1)


def evenly_spread(length: Array, keep: int, count: Array) -> Array:
    """`count` [B] places from 0 to `length` [B] - 1, truncated to integers: [B, keep] int32.

    Exact for up to 46,340 survivors. Original: in floating point, which for a few sizes lands just
    below a whole number between the ends and so takes the token before; where every drop halves
    the tokens there is no such number.
    """
    place = jnp.arange(keep)
    steps = jnp.maximum(count - 1, 1)[:, None]
    whole, rest = jnp.divmod(length[:, None] - 1, steps)
    spread = place * whole + place * rest // steps
    return jnp.where(place < count[:, None], spread, 0)


def survivors(
    drop: RankedDrop,
    *,
    original_slots: int,
    original: Array,
    length: Array,
    attention: Array | None,
) -> Survivors:
    """Applies one drop.

    Args:
        original_slots, original: slots and real tokens [B] the video began with, of which the drop
            leaves a share.
        length: [B] real tokens that are left before the drop.
        attention: [B, V] of these; needed by a drop by attention, unused by others.
    """
    keep = drop.kept(original_slots)
    # A table, so that truncation is Python's own and not that of a float32 product.
    table = np.array([drop.kept(n) for n in range(original_slots + 1)], np.int32)
    count = jnp.asarray(table)[original]
    if not drop.by_attention:
        return Survivors(evenly_spread(length, keep, count), count, None)
    assert attention is not None
    return Survivors(most_attended(attention, length, keep, count), count, attention)
