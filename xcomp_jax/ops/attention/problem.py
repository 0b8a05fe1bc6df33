"""What is asked of an attention implementation, apart from the numbers: shapes and options."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from xcomp_jax.ops.block_sizes import shape_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Static description of one call; sizes in the letters of `xcomp_jax.shapes`."""

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
        """From arrays or shapes.

        Raises:
            ValueError: naming the shapes that do not fit each other.
        """
        batch, rows, heads, size = query.shape
        keys, kv_heads = key.shape[1:3]
        if key.shape != (batch, keys, kv_heads, size) or value.shape != key.shape:
            raise ValueError(
                f"{query.shape=}, {key.shape=}, {value.shape=}: expected [B, S, N, H] and twice "
                "[B, S', K, H]"
            )
        if not query.dtype == key.dtype == value.dtype:
            raise ValueError(f"{query.dtype=}, {key.dtype=}, {value.dtype=} must be equal")
        if heads % kv_heads:
            raise ValueError(f"{kv_heads=} must divide {heads=}")
        if key_mask is not None and key_mask.shape != (batch, keys):
            raise ValueError(f"{key_mask.shape=} must be {(batch, keys)}")
        if query_offset and not causal:
            raise ValueError(f"{query_offset=} means nothing without causal=True")
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
        """Where the table of block sizes keeps this shape."""
        return shape_key(
            "attention", causal=self.causal, h=self.size, rows=self.rows, keys=self.keys
        )
