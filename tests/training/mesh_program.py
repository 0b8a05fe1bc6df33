"""Trains two steps on several meshes; test_mesh.py runs it with eight CPU devices.

Writes the gradients of the first step to a folder and prints the other results as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.tiny import tiny_params
from tests.training.tiny_batches import MODEL, STAGE, batch_of
from xcomp_jax.config import MeshConfig
from xcomp_jax.launch.preflight.collectives import collectives
from xcomp_jax.sharding import AXES, global_batch, make_mesh, path_name
from xcomp_jax.training.step import TrainState, init_state, make_train_step, state_shardings

# Large eps: with a small one, Adam scales gradients that are only rounding noise to full steps.
EIGHT = dataclasses.replace(STAGE, batch_size=8, warmup_ratio=0.0, beta1=0.5, eps=1e-3)
# Three clips per video need padding on eight devices along `context`, and the five and nine tokens
# of text need it on every axis.
FRAMES = 12


def batch_at(step: int) -> dict[str, np.ndarray]:
    """Returns videos of 4 to 12 frames."""
    batch = batch_of(8, seed=step, frames=FRAMES)
    batch["num_frames"] = np.resize(np.array([12, 8, 4], np.int32), 8)
    return batch


def with_swapped_clips(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the batch with two clips of every video swapped."""
    order = np.array([1, 0, 2])
    clips = batch["frames"].reshape(8, 3, -1, *batch["frames"].shape[2:])
    return {**batch, "frames": clips[:, order].reshape(batch["frames"].shape)}


def arrays_by_name(tree: Any) -> dict[str, np.ndarray]:
    return {
        path_name(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


class CompiledStep:
    """The training step, compiled for a mesh."""

    def __init__(self, initial: TrainState, sizes: tuple[int, ...]) -> None:
        devices = jax.devices()[: int(np.prod(sizes))]
        self.mesh = make_mesh(MeshConfig(**dict(zip(AXES, sizes, strict=True))), devices)
        self._initial = initial
        self._shardings = state_shardings(MODEL.config, EIGHT, self.mesh)
        step = make_train_step(MODEL.config, EIGHT, self.mesh)
        self._step = step.lower(
            self.initial_state(), global_batch(self.mesh, batch_at(0))
        ).compile()

    def initial_state(self) -> TrainState:
        # A copy, because the step donates its state.
        return jax.device_put(jax.tree.map(np.array, self._initial), self._shardings)

    def gradients(self, batch: dict[str, np.ndarray]) -> tuple[TrainState, dict, dict]:
        """Returns the next state, the metrics and the clipped gradients (Adam's first moment)."""
        state, metrics = self._step(self.initial_state(), global_batch(self.mesh, batch))
        return state, metrics, arrays_by_name(state.opt_state[1][0].mu)

    def run(self, folder: Path, name: str) -> dict[str, Any]:
        state, first, grads = self.gradients(batch_at(0))
        np.savez(folder / f"{name}.npz", **grads)
        pieces = {
            path_name(path): int(
                np.prod(leaf.shape) / np.prod(leaf.sharding.shard_shape(leaf.shape))
            )
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)
            if np.prod(leaf.shape) >= 1024
        }
        _, second = self._step(state, global_batch(self.mesh, batch_at(1)))
        return {
            "metrics": [{key: float(value) for key, value in m.items()} for m in (first, second)],
            "pieces": pieces,
            "temp_bytes": self._step.memory_analysis().temp_size_in_bytes,
            "gathered_bytes": self._gathered_bytes(),
        }

    def _gathered_bytes(self) -> float:
        """Returns the bytes that one device sends to gather the weights of the decoder layers."""
        return sum(
            collective.nbytes
            for collective in collectives(self._step.as_text(), self.mesh.size)
            if collective.kind == "all-gather" and "llm.prefill" in collective.source
        )


def main(folder: Path) -> None:
    assert jax.device_count() == 8
    initial = jax.device_get(jax.jit(init_state, static_argnums=0)(EIGHT, tiny_params()))
    results = {}
    for sizes in ((1, 1, 1, 1), (8, 1, 1, 1), (2, 2, 2, 1), (1, 2, 2, 2), (1, 1, 1, 8)):
        name = ",".join(map(str, sizes))
        step = CompiledStep(initial, sizes)
        results[name] = step.run(folder, name)
        if np.prod(sizes) == 1:
            np.savez(folder / "control.npz", **step.gradients(with_swapped_clips(batch_at(0)))[2])
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
