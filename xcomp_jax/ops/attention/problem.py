"""Static description of a call of attention: shapes and options."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from xcomp_jax.ops.block_sizes import shape_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Shapes, dtype and options of one call, on all devices or on one."""

    batch: int
    rows: int
    keys: int
    heads: int
    kv_heads: int
    size: int
    dtype: jnp.dtype
    causal: bool
    masked: bool
    query_offset: int
    return_lse: bool

    @classmethod
    def of(
        cls,
        query: Any,
        key: Any,
        value: Any,
        causal: bool,
        key_mask: Any,
        query_offset: int,
        return_lse: bool,
    ) -> Problem:
        """Reads the description off arrays (or shapes).

        Raises:
            ValueError: inconsistent shapes or options.
        """
        batch, rows, heads, size = query.shape
        keys, kv_heads = key.shape[1:3]
        if key.shape != (batch, keys, kv_heads, size) or value.shape != key.shape:
            raise ValueError(
                f"{query.shape=}, {key.shape=}, {value.shape=}: expected [B, Q, N, H] and twice "
                "[B, S, K, H]"
            )
        if not query.dtype == key.dtype == value.dtype:
            raise ValueError(f"{query.dtype=}, {key.dtype=}, {value.dtype=} must be equal")
        if heads % kv_heads:
            raise ValueError(f"{kv_heads=} must divide {heads=}")
        if key_mask is not None and key_mask.shape != (batch, keys):
            raise ValueError(f"{key_mask.shape=} must be {(batch, keys)}")
        if query_offset and not causal:
            raise ValueError(f"{query_offset=} requires causal=True")
        if causal and not 0 <= query_offset <= keys - rows:
            raise ValueError(
                f"{query_offset=} must lie in [0, {keys - rows}]: {rows} rows, {keys} keys"
            )
        return cls(
            batch=batch,
            rows=rows,
            keys=keys,
            heads=heads,
            kv_heads=kv_heads,
            size=size,
            dtype=jnp.dtype(query.dtype),
            causal=causal,
            masked=key_mask is not None,
            query_offset=query_offset,
            return_lse=return_lse,
        )

    @property
    def table_key(self) -> str:
        """Key of this shape in the table of block sizes."""
        return shape_key(
            "attention", causal=self.causal, h=self.size, rows=self.rows, keys=self.keys
        )
