"""Print preflight estimates of known programs as JSON; test_preflight.py runs it on 8 devices."""

from __future__ import annotations

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.tiny import TINY
from xcomp_jax.config import CompressionConfig, MeshConfig, StageConfig
from xcomp_jax.launch.preflight.collectives import by, collectives
from xcomp_jax.launch.preflight.estimate import Estimate, estimate, least_needed
from xcomp_jax.launch.preflight.extrapolation import extended, shortened
from xcomp_jax.launch.preflight.pods import Pod
from xcomp_jax.launch.preflight.training import Sizes, step_program
from xcomp_jax.peaks import Peak
from xcomp_jax.sharding import make_mesh

STAGE = StageConfig(
    name="sct",
    num_steps=10,
    learning_rate=1e-3,
    batch_size=8,
    accumulate_steps=2,
    compression=CompressionConfig(),
    remat=True,
)
# Wide, so that weights, gradients and remat inputs take most of the memory despite few tokens.
MODEL = dataclasses.replace(
    TINY,
    llm=dataclasses.replace(TINY.llm, hidden_size=128, intermediate_size=256, num_hidden_layers=10),
    projector=dataclasses.replace(TINY.projector, tokens_per_frame=3),
)
SIZES = Sizes(frames=32, prefix=8, suffix=24, encoded=True)


def known_collectives() -> dict[str, float]:
    """Counts five loop iterations that gather 4 KiB and reduce 2 KiB each, and a last reduction."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))

    def local(x: jax.Array) -> jax.Array:  # [128] of [1024]
        def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            whole = jax.lax.all_gather(x, "x", tiled=True)
            return x + jax.lax.psum(whole[:512], "x")[:128], None

        x, _ = jax.lax.scan(body, x, length=5)
        return jax.lax.psum(x, "x")

    function = jax.shard_map(
        local, mesh=mesh, in_specs=PartitionSpec("x"), out_specs=PartitionSpec(), check_vma=False
    )
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    x = jax.ShapeDtypeStruct((1024,), jnp.float32, sharding=sharding)
    return by("kind", collectives(jax.jit(function).lower(x).compile().as_text(), 8))


def estimates() -> dict[str, Estimate]:
    """Estimates a step as a whole, extrapolated, and of its first and last layer groups alone."""
    pod = Pod("cpu:8", jax.devices(), 2**30, 1.0, Peak(1.0, 1.0))
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), jax.devices())
    model = dataclasses.replace(MODEL, compression=STAGE.compression)
    program = step_program(model, STAGE, mesh, SIZES)
    short = estimate(step_program(*shortened(model, STAGE), mesh, SIZES), pod, mesh)
    least = least_needed(program, pod, mesh)
    quick = extended(short, program, model, STAGE, mesh, SIZES, pod, least)
    return {"whole": estimate(program, pod, mesh), "quick": quick, "short": short}


if __name__ == "__main__":
    figures = {name: result.as_dict() for name, result in estimates().items()}
    json.dump({"known": known_collectives(), **figures}, sys.stdout)
