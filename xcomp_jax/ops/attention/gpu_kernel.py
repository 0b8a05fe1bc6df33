"""Parts shared by the forward and backward kernels for GPUs: block sizes, scores, masks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Float

from xcomp_jax.ops.attention.problem import Problem

LOG2_E = math.log2(math.e)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """Queries and keys in one block, powers of two from 16; warps and pipeline stages.

    Defaults are the fastest of those measured on an H200 in bfloat16 (docs/kernels.md).
    """

    forward_queries: int = 64
    forward_keys: int = 64
    forward_warps: int = 4
    forward_stages: int = 3
    backward_queries: int = 64
    backward_keys: int = 64
    backward_warps: int = 4
    backward_stages: int = 2

    def __post_init__(self) -> None:
        for name in ("forward_queries", "forward_keys", "backward_queries", "backward_keys"):
            size = getattr(self, name)
            if size < 16 or size & (size - 1):
                raise ValueError(f"{name}={size} must be a power of two and at least 16")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Static description of one call of a kernel."""

    problem: Problem
    blocks: BlockSizes
    interpret: bool

    @property
    def group(self) -> int:
        return self.problem.heads // self.problem.kv_heads

    @property
    def scale(self) -> float:
        return self.problem.size**-0.5

    def last_block(self, keys: int) -> int:
        """Returns the index past the last block of `keys` that holds a real key."""
        return -(-self.problem.keys // keys)

    def call(self, body: Any, *, forward: bool, name: str, **arguments: Any) -> Any:
        """Builds the Pallas call of `body`."""
        size = "forward" if forward else "backward"
        return pl.pallas_call(
            body,
            compiler_params=plgpu.CompilerParams(
                num_warps=getattr(self.blocks, f"{size}_warps"),
                num_stages=getattr(self.blocks, f"{size}_stages"),
            ),
            interpret=self.interpret,
            name=name,
            **arguments,
        )

    def mask_spec(self, keys: int) -> pl.BlockSpec | None:
        """Returns the block of a mask [B, keys]: all keys of an example."""
        return pl.BlockSpec((None, keys), lambda i, h, b: (b, 0)) if self.problem.masked else None

    def specs_by_rows(self, block: int, rows: int, keys: int) -> tuple[pl.BlockSpec, ...]:
        """Returns blocks for a grid of (blocks of rows, heads, examples).

        They are a block of [B, rows, N, H], all of [B, keys, K, H], and a block of [B, N, rows].
        The last block comes first: under a causal mask it takes longest.
        """
        blocks, size, group = rows // block, self.problem.size, self.group
        return (
            pl.BlockSpec((None, block, None, size), lambda i, h, b: (b, blocks - 1 - i, h, 0)),
            pl.BlockSpec((None, keys, None, size), lambda i, h, b: (b, 0, lax.div(h, group), 0)),
            pl.BlockSpec((None, None, block), lambda i, h, b: (b, h, blocks - 1 - i)),
        )

    def scores(
        self, query: Float[Array, "rows H"], key: Float[Array, "keys H"]
    ) -> Float[Array, "rows keys"]:
        """Computes float32 scores to base two."""
        return plgpu.dot(query, key.T).astype(jnp.float32) * (self.scale * LOG2_E)

    def visible(
        self, mask: Any, row: Array, first_key: Array, keys: int, *, edge: bool
    ) -> Array | None:
        """Computes the mask [rows, keys] of a block, or None where every row sees every key.

        Args:
            edge: the block may hold keys that are later than a row, or padding.
        """
        seen = None
        key = first_key + jnp.arange(keys)
        if edge:
            seen = (key < self.problem.keys)[None, :]
            if self.problem.causal:
                seen = seen & (row[:, None] >= key[None, :])
        if mask is not None:
            real = (mask[pl.ds(first_key, keys)].astype(jnp.int32) != 0)[None, :]
            seen = real if seen is None else seen & real
        return seen

    def key_blocks(self, first_row: Array, rows: int, keys: int) -> tuple[Any, Any]:
        """Counts the blocks of keys that rows from `first_row` on see wholly, and partly."""
        last = self.last_block(keys)
        if not self.problem.causal:
            return self.problem.keys // keys, last
        whole = lax.div(first_row + 1, keys)
        seen = lax.div(first_row + rows + keys - 1, keys)
        return jnp.minimum(whole, self.problem.keys // keys), jnp.minimum(seen, last)
