"""Lists the sharding of every array of the published model's training state on 64 devices.

The list is stored beside this file, so that a change of the sharding rules shows as a diff. Run the
module to update it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from xcomp_jax.config import LoRAConfig, StageConfig
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.sharding import AXES, path_name
from xcomp_jax.training.step import init_state, state_shardings
from xcomp_jax.variants import XCOMP_2B

GOLDEN = Path(__file__).with_name("resolved_shardings.json")
FULL = StageConfig(
    name="all",
    num_steps=2247,
    learning_rate=1e-5,
    batch_size=32,
    accumulate_steps=4,
    trainable=("vision", "projector", "llm"),
)
STAGES = {"full": FULL, "lora": dataclasses.replace(FULL, trainable=("llm",), lora=LoRAConfig())}


def resolved() -> dict[str, list[Any]]:
    """Returns name -> (shape, mesh axes of each dimension, shape on one device)."""
    mesh = jax.sharding.AbstractMesh((1, 16, 2, 2), AXES)
    rows: dict[str, list[Any]] = {}
    for kind, stage in STAGES.items():
        shapes = jax.eval_shape(lambda p, s=stage: init_state(s, p), abstract_params(XCOMP_2B))
        shardings = state_shardings(XCOMP_2B, stage, mesh)
        leaves = jax.tree_util.tree_leaves_with_path(shapes)
        for (path, leaf), sharding in zip(leaves, jax.tree.leaves(shardings), strict=True):
            shard = sharding.shard_shape(leaf.shape)
            rows[f"{kind}/{path_name(path)}"] = [leaf.shape, list(sharding.spec), shard]
    return json.loads(json.dumps(rows))


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in resolved().items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
