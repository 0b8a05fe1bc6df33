"""Runs kernels on eight CPU devices; started by `test_choice`, prints JSON."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from xcomp_jax.config import MeshConfig
from xcomp_jax.ops.attention import xla
from xcomp_jax.ops.partition import over_batch, over_batch_and_heads
from xcomp_jax.sharding import make_mesh


def main() -> None:
    """Prints the shapes that a kernel gets in several situations, and the results' difference."""
    shapes: dict[str, list[int]] = {}

    def attend(query, key, value, key_mask):
        shapes[situation] = [query.shape[0], query.shape[2], key.shape[2]]
        return xla.attention(query, key, value, causal=True, key_mask=key_mask)

    def inputs(batch: int = 4, kv_heads: int = 2):
        rng = np.random.default_rng(0)
        sizes = ((batch, 6, 4, 8), (batch, 6, kv_heads, 8), (batch, 6, kv_heads, 8))
        mask = jnp.asarray(np.arange(6) < np.arange(3, 3 + batch)[:, None])
        return *(jnp.asarray(rng.normal(size=size), jnp.float32) for size in sizes), mask

    def run(*arrays):
        return jax.jit(lambda *x: over_batch_and_heads(attend, *x))(*arrays)[0]

    situation = "none"
    alone = run(*inputs())
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        situation = "all"
        split = run(*inputs())
        situation = "one head"
        run(*inputs(kv_heads=1))
        situation = "odd batch"
        run(*inputs(batch=3))
        situation = "inside"
        spec = PartitionSpec(("data", "fsdp"))
        jax.jit(
            jax.shard_map(
                lambda *x: over_batch_and_heads(attend, *x)[0],
                in_specs=spec,
                out_specs=spec,
                check_vma=False,
            )
        )(*inputs())
        total = over_batch(lambda x: x + x, jnp.arange(8.0))
    difference = float(jnp.abs(split - alone).max() + jnp.abs(total - 2 * jnp.arange(8.0)).max())
    print(json.dumps({"shapes": shapes, "difference": difference}))


if __name__ == "__main__":
    main()
