"""Run by test_mesh.py with eight CPU devices: prints losses and shardings of several meshes."""

from __future__ import annotations

import dataclasses
import json
import sys

import jax
import numpy as np

from tests.tiny import tiny_params
from tests.training import test_step
from tests.training.test_step import MODEL, batch_of, norm
from xcomp_jax.config import MeshConfig
from xcomp_jax.sharding import make_mesh, path_name
from xcomp_jax.training.step import TrainState, init_state, make_train_step, state_shardings

STAGE = dataclasses.replace(
    test_step.STAGE, batch_size=8, warmup_ratio=0.0, trainable=("projector", "llm")
)


def steps(first: TrainState, mesh_config: MeshConfig, devices: int) -> dict[str, object]:
    """Three steps of training; the loss of each and what became of the parameters."""
    mesh = make_mesh(mesh_config, jax.devices()[:devices])
    # A copy: the step gives its state's memory to the next state.
    state = jax.tree.map(np.array, first)
    state = jax.device_put(state, state_shardings(MODEL.config, STAGE, mesh))
    step = make_train_step(MODEL.config, STAGE, mesh)
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
        "norm": norm(state.params),
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
    first = jax.device_get(jax.jit(init_state, static_argnums=0)(STAGE, tiny_params()))
    json.dump({name: steps(first, *mesh) for name, mesh in meshes.items()}, sys.stdout)
