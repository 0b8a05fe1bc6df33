"""Attention as it is defined: all scores at once, S x S of them, in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool,
    key_mask: Array | None = None,
    query_offset: int = 0,
) -> tuple[Array, Array]:
    """Output [B, S, N, H] and log-sum-exp [B, S, N], both float32; see `dispatch.attention`.

    A row without any key to look at gives NaN: what it should be is nobody's business.
    """
    rows, heads, size = query.shape[1:]
    keys, kv_heads = key.shape[1:3]
    query, key, value = (x.astype(jnp.float32) for x in (query, key, value))
    key, value = (jnp.repeat(x, heads // kv_heads, axis=2) for x in (key, value))
    scores = jnp.einsum("bqnh,bsnh->bnqs", query, key, precision="highest") / size**0.5
    visible = jnp.ones((1, 1, rows, keys), bool)
    if causal:
        visible &= query_offset + jnp.arange(rows)[:, None] >= jnp.arange(keys)
    if key_mask is not None:
        visible = visible & key_mask[:, None, None, :]
    scores = jnp.where(visible, scores, -jnp.inf)
    out = jnp.einsum("bnqs,bsnh->bqnh", jax.nn.softmax(scores), value, precision="highest")
    return out, jnp.moveaxis(jax.nn.logsumexp(scores, axis=-1), 1, 2)
