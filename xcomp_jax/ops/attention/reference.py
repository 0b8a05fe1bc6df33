"""Definition of attention: all S x S scores at once, in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float


def attention(
    query: Float[Array, "B Q N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    *,
    causal: bool,
    key_mask: Bool[Array, "B S"] | None = None,
    query_offset: int = 0,
) -> tuple[Float[Array, "B Q N H"], Float[Array, "B Q N"]]:
    """Computes float32 output and log-sum-exp; see `dispatch.attention`.

    Fully masked rows return NaN; callers must not read them.
    """
    rows, heads, size = query.shape[1:]
    keys, kv_heads = key.shape[1:3]
    query, key, value = (x.astype(jnp.float32) for x in (query, key, value))
    key, value = (jnp.repeat(x, heads // kv_heads, axis=2) for x in (key, value))
    scores = jnp.einsum("bqnh,bsnh->bnqs", query, key, precision="highest") / size**0.5
    visible = jnp.ones((1, 1, rows, keys), bool)
    if causal:
        place = query_offset + jnp.arange(rows)
        visible &= (place[:, None] >= jnp.arange(keys)[None, :])[None, None]
    if key_mask is not None:
        visible = visible & key_mask[:, None, None, :]
    scores = jnp.where(visible, scores, -jnp.inf)
    out = jnp.einsum("bnqs,bsnh->bqnh", jax.nn.softmax(scores), value, precision="highest")
    return out, jnp.moveaxis(jax.nn.logsumexp(scores, axis=-1), 1, 2)
