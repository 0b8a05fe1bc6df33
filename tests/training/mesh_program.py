"""Run by test_mesh.py with eight CPU devices: prints losses and shardings of several meshes."""

from __future__ import annotations

import dataclasses
import json
import sys

import jax
import numpy as np
import optax

from tests.tiny import tiny_params
from tests.training.test_step import MODEL, STAGE, batch_of
from xcomp_jax.config import MeshConfig
from xcomp_jax.sharding import make_mesh, path_name
from xcomp_jax.training.step import init_state, make_train_step, state_shardings


def steps(mesh_config: MeshConfig, devices: int) -> dict[str, object]:
    """Three steps of training; the loss of each and what became of the parameters."""
    stage = dataclasses.replace(
        STAGE, batch_size=8, warmup_ratio=0.0, trainable=("projector", "llm")
    )
    mesh = make_mesh(mesh_config, jax.devices()[:devices])
    shardings = state_shardings(MODEL.config, stage, mesh)
    # A copy: the step gives its state's memory to the next state.
    params = jax.tree.map(np.array, tiny_params())
    state = jax.device_put(init_state(stage, params), shardings)
    step = make_train_step(MODEL.config, stage, mesh)
    losses = []
    for number in range(3):
        state, metrics = step(state, batch_of(8, seed=number))
        losses.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    pieces = {
        path_name(path): np.prod(leaf.shape) / np.prod(leaf.sharding.shard_shape(leaf.shape))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if np.prod(leaf.shape) >= 1024
    }
    return {
        "losses": losses,
        "norm": float(optax.global_norm(state.params)),
        "pieces": {name: int(count) for name, count in pieces.items()},
    }


if __name__ == "__main__":
    assert jax.device_count() == 8
    meshes = {
        "one": (MeshConfig(data=1, fsdp=1, tensor=1), 1),
        "data": (MeshConfig(data=8, fsdp=1, tensor=1), 8),
        "fsdp": (MeshConfig(data=1, fsdp=8, tensor=1), 8),
        "all": (MeshConfig(data=2, fsdp=2, tensor=2), 8),
    }
    json.dump({name: steps(*mesh) for name, mesh in meshes.items()}, sys.stdout)
