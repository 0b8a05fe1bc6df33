"""Token selection of a ranked drop: the heuristic of the base model, not LP-Comp.

Shapes are static: in a batch of videos of different lengths each keeps its own number of tokens,
which come first and in their order, with padding after them.
Reference: docs/reference_behaviour.md#base-model.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from xcomp_jax.compression.schedule import RankedDrop

# Score of a padded key: its weight after the softmax is exactly zero.
MASKED = -1e30


@flax.struct.dataclass
class Survivors:
    """Selection of the visual slots that remain.

    indices: [B, V_after] int32 into the visual slots before the drop, ascending up to `count` [B],
    the number of real tokens, and arbitrary from there on; attention: [B, V] float32 by which the
    tokens were selected, None for evenly spread tokens.
    """

    indices: Array
    count: Array
    attention: Array | None

    def take(self, visual: Float[Array, "B V D"]) -> Float[Array, "B V_after D"]:
        """Gathers the selected tokens."""
        return jnp.take_along_axis(visual, self.indices[..., None], axis=1)


def attention_of_last_token(
    query: Float[Array, "B S N H"], key: Float[Array, "B S K H"], mask: Bool[Array, "B S"]
) -> Float[Array, "B S"]:
    """Computes the attention of the last real token to every slot, mean over the heads.

    Args:
        query, key: after rotation.
        mask: True on real tokens.

    Returns:
        float32 with sum 1 over the real tokens and 0 on padding.
    """
    batch, slots, heads, size = query.shape
    kv_heads = key.shape[2]
    last = jnp.max(jnp.where(mask, jnp.arange(slots)[None, :], 0), axis=1)
    row = jnp.take_along_axis(query, last[:, None, None, None], axis=1)
    grouped = row.reshape(batch, kv_heads, heads // kv_heads, size) * size**-0.5
    scores = jnp.einsum("bkgh,bskh->bkgs", grouped, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, MASKED), axis=-1)
    return jnp.mean(weights, axis=(1, 2))


def most_attended(
    attention: Float[Array, "B V"], length: Int[Array, " B"], keep: int, count: Int[Array, " B"]
) -> Int[Array, "B {keep}"]:
    """Selects the `count` largest entries among the first `length`, in ascending order of slots.

    Args:
        keep: at least every count; entries from `count` on are padding.

    Of equal entries the earlier one is selected first.
    """
    slots = attention.shape[1]
    real = jnp.arange(slots)[None, :] < length[:, None]
    _, order = jax.lax.top_k(jnp.where(real, attention, -1.0), keep)
    selected = jnp.where(jnp.arange(keep)[None, :] < count[:, None], order, slots)
    return jnp.minimum(jnp.sort(selected, axis=1), slots - 1)


def evenly_spread(
    length: Int[Array, " B"], keep: int, count: Int[Array, " B"]
) -> Int[Array, "B {keep}"]:
    """Selects `count` places from 0 to `length` - 1, truncated to integers.

    Exact for up to 46,340 tokens. Original: in floating point, which for a few sizes rounds just
    below a whole number between the ends and then selects the token before; where every drop halves
    the tokens there is no such number.
    """
    place = jnp.arange(keep)[None, :]
    steps = jnp.maximum(count - 1, 1)[:, None]
    whole, rest = jnp.divmod(length[:, None] - 1, steps)
    spread = place * whole + place * rest // steps
    return jnp.where(place < count[:, None], spread, 0)


def survivors(
    drop: RankedDrop,
    *,
    original_slots: int,
    original: Int[Array, " B"],
    length: Int[Array, " B"],
    attention: Float[Array, "B V"] | None,
) -> Survivors:
    """Selects the tokens that remain after one drop.

    Args:
        original_slots, original: slots and real tokens of the whole video, of which the drop keeps
            a share.
        length: real tokens before the drop.
        attention: to these tokens; required by a drop by attention, unused by others.
    """
    keep = drop.token_count(original_slots)
    # A table, so that truncation is Python's own and not that of a float32 product.
    table = np.array([drop.token_count(n) for n in range(original_slots + 1)], np.int32)
    count = jnp.asarray(table)[original]
    if not drop.by_attention:
        return Survivors(evenly_spread(length, keep, count), count, None)
    assert attention is not None
    return Survivors(most_attended(attention, length, keep, count), count, attention)
